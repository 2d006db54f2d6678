//! Rows that stand for the others of the outbox: where these would go is asked of the brokers.

use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::message::{Message, Parts};
use crate::schema::Schema;

/// Rows that are looked at, at each end of the table: what has waited for longest, and what is new.
pub const SAMPLE_ROWS: i64 = 10_000;

/// Pairs of topic and type that are taken, the newest first.
const KINDS_MAX: i64 = 1_000;

// By the primary key from both ends, without payloads; one row for each pair.
const SAMPLE: &str = "
WITH ends AS (
    (SELECT id, topic, type FROM outbox.message ORDER BY id LIMIT $1)
    UNION ALL
    (SELECT id, topic, type FROM outbox.message ORDER BY id DESC LIMIT $1)
), one AS (
    SELECT max(id) AS id FROM ends GROUP BY topic, type ORDER BY max(id) DESC LIMIT $2
)
SELECT message.id, message_id, topic, key, type, headers::text AS headers
FROM one JOIN outbox.message ON message.id = one.id
ORDER BY message.id";

/// One row, without its payload, for each topic and type at both ends of the table.
///
/// # Errors
/// The database's.
pub async fn sample(client: &Client, schema: &Schema) -> Result<Vec<Message>, Error> {
    let rows = client.query(&schema.sql(SAMPLE), &[&SAMPLE_ROWS, &KINDS_MAX]).await?;
    let message = |row: &tokio_postgres::Row| {
        Ok(Message::new(Parts {
            id: row.try_get("id")?,
            message_id: row.try_get::<_, Uuid>("message_id")?,
            created_at_us: 0,
            topic: row.try_get("topic")?,
            key: row.try_get("key")?,
            kind: row.try_get("type")?,
            headers: row.try_get("headers")?,
            payload: None,
            oversize_bytes: None,
        }))
    };
    rows.iter().map(message).collect()
}
