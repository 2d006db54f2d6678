//! Failed and parked messages of an inbox.

use serde::Serialize;
use tokio_postgres::{Client, Error, Row};

use super::lookup::decide;
use crate::schema::Schema;

/// A failed message, without what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The logical handler.
    pub consumer: String,
    /// The message.
    pub message_id: String,
    /// Failed attempts.
    pub attempts: i32,
    /// The kind of failure.
    pub class: String,
    /// What was said last.
    pub error: Option<String>,
    /// When it last failed, in RFC 3339.
    pub last_failed_at: String,
    /// Since when it waits for a person, in RFC 3339; absent while it is tried.
    pub parked_at: Option<String>,
    /// Whether its consumer may take it from the table once more.
    pub replaying: bool,
    /// Bytes of the payload that is kept; absent if nothing is.
    pub payload_bytes: Option<i32>,
}

const COLUMNS: &str = "
SELECT consumer, message_id, attempts, class, error,
    coalesce(to_char(last_failed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
             last_failed_at::text),
    to_char(parked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
    replay_at IS NOT NULL, octet_length(payload)
FROM outbox.inbox_failure";

fn failure(row: &Row) -> Result<Failure, Error> {
    Ok(Failure {
        consumer: row.try_get(0)?,
        message_id: row.try_get(1)?,
        attempts: row.try_get(2)?,
        class: row.try_get(3)?,
        error: row.try_get(4)?,
        last_failed_at: row.try_get(5)?,
        parked_at: row.try_get(6)?,
        replaying: row.try_get(7)?,
        payload_bytes: row.try_get(8)?,
    })
}

/// The failures that came last; only parked ones unless `all`.
///
/// # Errors
/// The database's.
pub async fn list(
    client: &Client,
    schema: &Schema,
    consumer: Option<&str>,
    all: bool,
    limit: i64,
) -> Result<Vec<Failure>, Error> {
    let text = format!(
        "{COLUMNS} WHERE ($1::text IS NULL OR consumer = $1) AND ($2 OR parked_at IS NOT NULL)
         ORDER BY last_failed_at DESC LIMIT $3"
    );
    let rows = client.query(&schema.sql(&text), &[&consumer, &all, &limit]).await?;
    rows.iter().map(failure).collect()
}

/// One of them.
///
/// # Errors
/// The database's.
pub async fn show(
    client: &Client,
    schema: &Schema,
    consumer: &str,
    id: &str,
) -> Result<Option<Failure>, Error> {
    let text = format!("{COLUMNS} WHERE consumer = $1 AND message_id = $2");
    let row = client.query_opt(&schema.sql(&text), &[&consumer, &id]).await?;
    row.as_ref().map(failure).transpose()
}

/// What is kept of its payload; the outer `None`: there is no such failure.
///
/// # Errors
/// The database's.
pub async fn payload(
    client: &Client,
    schema: &Schema,
    consumer: &str,
    id: &str,
) -> Result<Option<Option<Vec<u8>>>, Error> {
    let text = "SELECT payload FROM outbox.inbox_failure WHERE consumer = $1 AND message_id = $2";
    let row = client.query_opt(&schema.sql(text), &[&consumer, &id]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Lets its consumer take it from the table once more; `false` if it is not parked, or was not kept.
///
/// # Errors
/// The database's.
pub async fn replay(
    client: &Client,
    schema: &Schema,
    consumer: &str,
    id: &str,
    reason: &str,
    by: Option<&str>,
) -> Result<bool, Error> {
    decide(client, schema, "inbox_replay", [consumer, id, reason], by).await
}

/// Gives it up for good; `false` if there is none such.
///
/// # Errors
/// The database's.
pub async fn discard(
    client: &Client,
    schema: &Schema,
    consumer: &str,
    id: &str,
    reason: &str,
    by: Option<&str>,
) -> Result<bool, Error> {
    decide(client, schema, "inbox_discard", [consumer, id, reason], by).await
}
