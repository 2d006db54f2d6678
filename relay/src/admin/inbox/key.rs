//! Idempotency keys of requests and of calls to others.

use serde::Serialize;
use tokio_postgres::{Client, Error};

use super::lookup::decide;
use crate::schema::Schema;

/// A key, without what was asked for and what was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Key {
    /// Whose it is: method, route and principal, or the consumer.
    pub scope: String,
    /// The key.
    pub key: String,
    /// `working`, `lost` (its attempt has ended without a word), `suspended` (its attempt has failed
    /// in order, and the next request goes on there), `finished`, or `expired`.
    pub state: String,
    /// Attempts so far.
    pub attempts: i32,
    /// How far the work is known to have come.
    pub recovery_point: String,
    /// The HTTP status that was answered; 0 for a message, absent before the end.
    pub status: Option<i32>,
    /// In RFC 3339.
    pub created_at: String,
    /// Until when its attempt has it to itself, in RFC 3339; absent after the end.
    pub lease_until: Option<String>,
    /// In RFC 3339.
    pub expires_at: String,
}

const LIST: &str = r#"
SELECT scope, key, state, attempts, recovery_point, status,
    coalesce(to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), created_at::text),
    to_char(lease_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    coalesce(to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), expires_at::text)
FROM outbox.idempotency_key CROSS JOIN LATERAL (
    SELECT CASE WHEN lease_until > clock_timestamp() THEN 'working'
                WHEN expires_at <= clock_timestamp() THEN 'expired'
                WHEN suspended THEN 'suspended'
                WHEN status IS NULL THEN 'lost'
                ELSE 'finished' END AS state
) AS seen
WHERE ($1::text IS NULL OR scope = $1) AND ($2::text IS NULL OR key = $2) AND (
    $3 OR state = 'lost' OR state = 'suspended' AND recovery_point <> 'started'
)
ORDER BY created_at DESC LIMIT $4"#;

/// The youngest keys; unless `all`, only those whose attempt was lost, or has failed after a phase that
/// is recorded: a charge, say, whose client has not come again.
///
/// # Errors
/// The database's.
pub async fn list(
    client: &Client,
    schema: &Schema,
    scope: Option<&str>,
    key: Option<&str>,
    all: bool,
    limit: i64,
) -> Result<Vec<Key>, Error> {
    let rows = client.query(&schema.sql(LIST), &[&scope, &key, &all, &limit]).await?;
    let key = |row: &tokio_postgres::Row| {
        Ok(Key {
            scope: row.try_get(0)?,
            key: row.try_get(1)?,
            state: row.try_get(2)?,
            attempts: row.try_get(3)?,
            recovery_point: row.try_get(4)?,
            status: row.try_get(5)?,
            created_at: row.try_get(6)?,
            lease_until: row.try_get(7)?,
            expires_at: row.try_get(8)?,
        })
    };
    rows.iter().map(key).collect()
}

/// Forgets a key whose attempt was lost; `false` if there is none, an attempt is at work on it, or it has been answered.
///
/// # Errors
/// The database's.
pub async fn forget(
    client: &Client,
    schema: &Schema,
    scope: &str,
    key: &str,
    reason: &str,
    by: Option<&str>,
) -> Result<bool, Error> {
    decide(client, schema, "idempotency_forget", [scope, key, reason], by).await
}
