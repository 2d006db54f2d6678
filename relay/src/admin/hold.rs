//! Keys that are held: which message holds each, why, and how it lets go.
//!
//! A key is held by its lowest row in `retry` that `holds`, its head: until the head is delivered or
//! dead, and where `on_poison = "hold_key"` until a person has dealt with the dead one.

use serde::Serialize;
use time::OffsetDateTime;
use tokio_postgres::{Client, Error, GenericClient, Row, Transaction};
use uuid::Uuid;

use crate::admin::status::{Count, PENDING_COUNTED_MAX};
use crate::admin::{AdminError, end, target};
use crate::decision::{self, Decided, Decision};
use crate::keeper::floor;
use crate::schema::Schema;

/// A key, and the message that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldKey {
    /// For which target.
    pub target: String,
    /// The key.
    pub key: String,
    /// The row id of the message that holds it.
    pub id: i64,
    /// Why that one was set aside.
    pub class: String,
    /// What the broker said, if it said something.
    pub reason: Option<String>,
    /// Where it cannot go, if it is parked.
    pub destination: Option<String>,
    /// How often it was refused.
    pub attempts: i32,
    /// When it is tried again; `None`: not by time.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_at: Option<OffsetDateTime>,
    /// Rows of the key that wait behind it.
    pub behind: Count,
}

/// What a release did, or (dry run) would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Released {
    /// Rows of `retry` that were changed: 0 or more than that.
    pub rows: u64,
    /// The message that held the key; `None`: nothing did.
    pub head: Option<i64>,
    /// That one is dead, and holds its key no longer.
    pub let_go: bool,
    /// The message that is due now.
    pub due: Option<i64>,
}

// From key to key along retry_by_key, as far as the limit.
const LIST: &str = "
WITH RECURSIVE head AS (
    (
        SELECT key, id FROM outbox.retry
        WHERE target = $1 AND holds AND key IS NOT NULL AND ($2::text IS NULL OR key = $2)
        ORDER BY key, id LIMIT 1
    )
    UNION ALL
    SELECT next.key, next.id
    FROM head, LATERAL (
        SELECT r.key, r.id FROM outbox.retry AS r
        WHERE $2::text IS NULL AND r.target = $1 AND r.holds AND r.key > head.key
        ORDER BY r.key, r.id LIMIT 1
    ) AS next
)
SELECT retry.target, retry.key, retry.id, retry.class, retry.attempts, retry.destination,
       coalesce(retry.reason, dead.reason) AS reason,
       CASE WHEN retry.next_at < 'infinity' THEN retry.next_at END AS next_at,
       (
           SELECT count(*) FROM (
               SELECT FROM outbox.retry AS b
               WHERE b.target = $1 AND b.holds AND b.key >= head.key AND b.key <= head.key AND b.id > head.id
               LIMIT $4
           ) AS behind
       ) AS behind
FROM (SELECT key, id FROM head LIMIT $3) AS head
JOIN outbox.retry ON retry.target = $1 AND retry.id = head.id
LEFT JOIN outbox.dead ON dead.target = $1 AND dead.id = head.id
ORDER BY retry.key";

/// Every target that has a ledger, by name.
///
/// # Errors
/// The database's.
pub async fn targets(client: &impl GenericClient, schema: &Schema) -> Result<Vec<String>, Error> {
    let text = "SELECT target FROM outbox.ledger ORDER BY target";
    let rows = client.query(&schema.sql(text), &[]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The held keys of one target in the order of their names, or the one that is asked for.
///
/// # Errors
/// The database's.
pub async fn list(
    client: &impl GenericClient,
    schema: &Schema,
    target: &str,
    key: Option<&str>,
    keys_max: i64,
) -> Result<Vec<HeldKey>, Error> {
    let counted = PENDING_COUNTED_MAX + 1;
    let text = schema.sql(LIST);
    let rows = client.query(&text, &[&target, &key, &keys_max, &counted]).await?;
    rows.iter().map(held_key).collect()
}

fn held_key(row: &Row) -> Result<HeldKey, Error> {
    Ok(HeldKey {
        target: row.try_get("target")?,
        key: row.try_get("key")?,
        id: row.try_get("id")?,
        class: row.try_get("class")?,
        reason: row.try_get("reason")?,
        destination: row.try_get("destination")?,
        attempts: row.try_get("attempts")?,
        next_at: row.try_get("next_at")?,
        behind: Count::up_to(row.try_get("behind")?),
    })
}

// A mark may be changing the row: what is decided is decided on what that left.
const HEAD: &str = "
SELECT id, class, coalesce(next_at <= now(), false) AS due
FROM outbox.retry WHERE target = $1 AND holds AND key = $2
ORDER BY id LIMIT 1 FOR UPDATE";

const DUE: &str = "
UPDATE outbox.retry SET next_at = now() WHERE target = $1 AND id = $2 AND class <> 'poison'";

/// Lets a key go: a dead message holds it no longer (it stays dead), and the next one is due; one that
/// waits for its time is due now. Order within the key is kept either way.
///
/// With `dry_run` everything is done, counted and rolled back.
///
/// # Errors
/// [`AdminError::UnknownTarget`], [`AdminError::Busy`], the database's.
pub async fn release(
    client: &mut Client,
    schema: &Schema,
    target: &str,
    key: &str,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<Released, AdminError> {
    let transaction = floor::hold(client, schema).await?;
    target::expect(&transaction, schema, target).await?;
    let head = transaction.query_opt(&schema.sql(HEAD), &[&target, &key]).await?;
    let Some(head) = head else {
        return Ok(Released { rows: 0, head: None, let_go: false, due: None });
    };
    let id: i64 = head.try_get("id")?;
    let let_go = head.try_get::<_, &str>("class")? == "poison";
    let (rows, due) = if let_go {
        let next = release_keys(&transaction, schema, target, &[id]).await?;
        (1 + next.len() as u64, next.first().copied())
    } else if head.try_get("due")? {
        (0, Some(id))
    } else {
        (transaction.execute(&schema.sql(DUE), &[&target, &id]).await?, Some(id))
    };
    let decided = Decided {
        command_id: Uuid::now_v7(),
        command: "hold release",
        target: Some(target),
        filter: &serde_json::json!({ "key": key }),
        rows,
        ids: decision::id_set(&[id]),
        message_ids: None,
    };
    decision::record(&transaction, schema, decided, decision).await?;
    end(transaction, dry_run).await?;
    Ok(Released { rows, head: Some(id), let_go, due })
}

// The rows that held a key for the sake of a dead message go, and the next of the key is due.
const RELEASE_KEYS: &str = "
WITH released AS (
    DELETE FROM outbox.retry
    WHERE target = $1 AND id = ANY ($2) AND class = 'poison' RETURNING id, key
)
UPDATE outbox.retry SET next_at = now()
FROM (SELECT key, array_agg(id) AS ids FROM released GROUP BY key) AS free,
     LATERAL (
         SELECT next.id FROM outbox.retry AS next
         WHERE next.target = $1 AND next.key = free.key AND next.holds AND next.id <> ALL (free.ids)
         ORDER BY next.id LIMIT 1
     ) AS head
WHERE retry.target = $1 AND retry.id = head.id AND retry.next_at IS NULL
RETURNING retry.id";

/// Dead messages hold their keys no longer; the messages that are due in their place.
pub(super) async fn release_keys(
    transaction: &Transaction<'_>,
    schema: &Schema,
    target: &str,
    ids: &[i64],
) -> Result<Vec<i64>, Error> {
    let rows = transaction.query(&schema.sql(RELEASE_KEYS), &[&target, &ids]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
