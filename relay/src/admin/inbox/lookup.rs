//! What an inbox knows of messages.

use serde::Serialize;
use tokio_postgres::{Client, Error};

use crate::schema::Schema;

/// What is known of one message at one consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Known {
    /// The logical handler.
    pub consumer: String,
    /// `processed`, `retrying`, `parked`, or a decision: `forget`, `replay`, `discard`.
    pub state: String,
    /// When, in RFC 3339.
    pub at: String,
    /// Failed attempts, of a failure.
    pub attempts: Option<i32>,
    /// The class of a failure, or who decided.
    pub by: Option<String>,
    /// The error of a failure, or the reason of a decision.
    pub detail: Option<String>,
}

// The bucket leads to one partition; the consumer is the first column of its key.
const LOOKUP: &str = "
SELECT consumer, state,
       coalesce(to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), at::text), attempts, by, detail
FROM (
    SELECT consumer, 'processed' AS state, processed_at AS at, NULL::int AS attempts, NULL AS by, NULL AS detail
    FROM outbox.inbox WHERE bucket = outbox.inbox_bucket($1) AND message_id = $1
    UNION ALL
    SELECT consumer, CASE WHEN parked_at IS NULL THEN 'retrying' ELSE 'parked' END, last_failed_at, attempts, class, error
    FROM outbox.inbox_failure WHERE message_id = $1
    UNION ALL
    SELECT consumer, action, at, NULL, actor, reason FROM outbox.inbox_audit WHERE message_id = $1
) AS known
WHERE $2::text IS NULL OR consumer = $2
ORDER BY known.at, consumer";

/// Everything that is known of a message.
///
/// # Errors
/// The database's.
pub async fn lookup(
    client: &Client,
    schema: &Schema,
    id: &str,
    consumer: Option<&str>,
) -> Result<Vec<Known>, Error> {
    let rows = client.query(&schema.sql(LOOKUP), &[&id, &consumer]).await?;
    let known = |row: &tokio_postgres::Row| {
        Ok(Known {
            consumer: row.try_get(0)?,
            state: row.try_get(1)?,
            at: row.try_get(2)?,
            attempts: row.try_get(3)?,
            by: row.try_get(4)?,
            detail: row.try_get(5)?,
        })
    };
    rows.iter().map(known).collect()
}

/// What a claim would say of each of these messages, in their order; nothing is claimed.
///
/// # Errors
/// The database's; an id that could never be claimed.
pub async fn check(
    client: &Client,
    schema: &Schema,
    consumer: &str,
    ids: &[String],
) -> Result<Vec<String>, Error> {
    let text = "SELECT outbox.inbox_check($1, id) FROM unnest($2::text[]) WITH ORDINALITY AS i (id, n) ORDER BY n";
    let rows = client.query(&schema.sql(text), &[&consumer, &ids]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Forgets that a message was processed; `false` if there was nothing to forget.
///
/// # Errors
/// The database's.
pub async fn forget(
    client: &Client,
    schema: &Schema,
    consumer: &str,
    id: &str,
    reason: &str,
    by: Option<&str>,
) -> Result<bool, Error> {
    decide(client, schema, "inbox_forget", [consumer, id, reason], by).await
}

/// Calls one of the functions that record who decided, and why.
pub(super) async fn decide(
    client: &Client,
    schema: &Schema,
    function: &str,
    [consumer, id, reason]: [&str; 3],
    by: Option<&str>,
) -> Result<bool, Error> {
    let text = format!("SELECT outbox.{function}($1, $2, $3, coalesce($4, session_user))");
    let row = client.query_one(&schema.sql(&text), &[&consumer, &id, &reason, &by]).await?;
    row.try_get(0)
}
