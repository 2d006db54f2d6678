//! `target remove`: ends a target for good.

use serde::Serialize;
use tokio_postgres::{Client, Error, Row, Transaction};
use uuid::Uuid;

use super::claim;
use crate::admin::{AdminError, end};
use crate::decision::{self, Decided, Decision};
use crate::keeper::floor;
use crate::range::RangeSet;
use crate::schema::Schema;

/// What `target remove` deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Rows that were set aside for the target and are now never sent to it.
    pub retry_rows: u64,
    /// Rows of its holes.
    pub hole_rows: u64,
    /// Its dead messages: deleted with `purge_dead`, otherwise still there.
    pub dead_rows: u64,
}

/// What is asked for, as it is recorded.
#[derive(Serialize)]
struct Filter {
    purge_dead: bool,
    /// How far the target had come: nothing else knows it any more.
    settled: String,
}

// Counted and gathered by the server: there may be millions.
const RETRIES: &str = "
WITH gone AS (
    DELETE FROM outbox.retry WHERE target = $1 RETURNING id
)
SELECT count(*), coalesce(range_agg(int8range(id, id + 1)), '{}')::text FROM gone";

const DEAD: &str = "
WITH gone AS (
    DELETE FROM outbox.dead WHERE target = $1 RETURNING id, message_id
)
SELECT count(*), coalesce(range_agg(int8range(id, id + 1)), '{}')::text, array_agg(message_id)
FROM gone";

const DEAD_KEPT: &str = "
SELECT count(*), '{}', NULL::uuid[] FROM outbox.dead WHERE target = $1";

/// Ends a target: its ledger, holes, retry rows and watermarks are deleted, and with `purge_dead`
/// its dead messages as well. Retention no longer waits for it. It is recorded who decided it, and why,
/// with the ids that were set aside or dead.
///
/// With `dry_run` everything is done, counted and rolled back.
///
/// # Errors
/// [`AdminError::Leased`] while a relay works on it, [`AdminError::UnknownTarget`], the database's.
pub async fn remove(
    client: &mut Client,
    schema: &Schema,
    target: &str,
    purge_dead: bool,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<Removed, AdminError> {
    let transaction = floor::hold(client, schema).await?;
    let ledger = claim(&transaction, schema, target).await?;
    delete(&transaction, schema, "ledger", target).await?;
    delete(&transaction, schema, "watermark", target).await?;
    delete(&transaction, schema, "route", target).await?;
    delete(&transaction, schema, "unrouted", target).await?;
    let hole_rows = delete(&transaction, schema, "hole", target).await?;
    let retries = transaction.query_one(&schema.sql(RETRIES), &[&target]).await?;
    let dead = if purge_dead { DEAD } else { DEAD_KEPT };
    let dead = transaction.query_one(&schema.sql(dead), &[&target]).await?;
    let (retry_rows, dead_rows) = (rows(&retries), rows(&dead));
    // A requeued message stands in both, and is one message.
    let mut gone = ids(&retries);
    gone.union(&ids(&dead));
    let message_ids: Option<Vec<Uuid>> = dead.get(2);
    let decided = Decided {
        command_id: Uuid::now_v7(),
        command: "target remove",
        target: Some(target),
        filter: &Filter { purge_dead, settled: ledger.settled.to_string() },
        rows: gone.ids_len(),
        ids: gone,
        message_ids: message_ids.as_deref(),
    };
    // Also where nothing was set aside: what is to come is not sent to it either.
    decision::record_always(&transaction, schema, decided, decision).await?;
    end(transaction, dry_run).await?;
    Ok(Removed { retry_rows, hole_rows, dead_rows })
}

async fn delete(
    transaction: &Transaction<'_>,
    schema: &Schema,
    table: &str,
    target: &str,
) -> Result<u64, Error> {
    let text = format!("DELETE FROM outbox.{table} WHERE target = $1");
    transaction.execute(&schema.sql(&text), &[&target]).await
}

fn rows(answer: &Row) -> u64 {
    answer.get::<_, i64>(0).unsigned_abs()
}

fn ids(answer: &Row) -> RangeSet {
    answer.get::<_, &str>(1).parse().expect("a CHECK bounds the ids of messages")
}
