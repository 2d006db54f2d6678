//! `ledger rebuild`: makes everything pending for a target that is not provably settled.
//!
//! The remedy when the ledger cannot be trusted: the identity went back, ids far ahead were inserted,
//! a table was restored without its ledger. It costs duplicates, never a message.

use serde::Serialize;
use tokio_postgres::{Client, Error, Transaction};
use uuid::Uuid;

use crate::admin::status::{Count, PENDING_COUNTED_MAX};
use crate::admin::{AdminError, end, target};
use crate::decision::{self, Decided, Decision};
use crate::keeper::floor;
use crate::range::RangeSet;
use crate::schema::{Schema, identity};

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    /// Everything below this id is settled, nothing else.
    pub settled_below: i64,
    /// The new epoch: a pipeline that knows the old one begins anew.
    pub epoch: Uuid,
    /// Messages that are pending now.
    pub pending: Count,
    /// Rows of holes that were deleted.
    pub hole_rows: u64,
    /// Rows of `retry` that were deleted since their messages are pending.
    pub retry_rows: u64,
    /// Dead messages that are pending again, and no longer dead.
    pub dead_rows: u64,
    /// The identity had gone back below the floor: it begins at 1 again.
    pub floor_restarted: bool,
    /// Other targets whose ledgers know ids above the last one drawn: they need a rebuild as well.
    pub others: Vec<String>,
}

// What lies below the lowest message is settled, but no further than the floor: between the two an id
// may belong to a transaction that has not committed yet. The reader finds out, as with any hole.
const LEDGER: &str = "
UPDATE outbox.ledger
SET settled = int8multirange(int8range(1, below.id)), epoch = gen_random_uuid(), marked_at = now(),
    identity = NULL
FROM (
    SELECT least(floor, (SELECT min(id) FROM outbox.message)) AS id FROM outbox.meta
) AS below
WHERE target = $1
RETURNING below.id, epoch";

// A floor above everything drawn would make late rows of all the messages to come.
const FLOOR: &str = "
UPDATE outbox.meta SET floor = 1 WHERE floor - 1 > {last_id}";

const HOLES: &str = "DELETE FROM outbox.hole WHERE target = $1";

// It says since when ids are settled that are no longer.
const WATERMARKS: &str = "DELETE FROM outbox.watermark WHERE target = $1";

// A row that is pending must not be set aside as well. Rows whose message is gone stay: they are
// served from their dead copy.
const RETRIES: &str = "
DELETE FROM outbox.retry
WHERE target = $1 AND id >= $2 AND EXISTS (SELECT FROM outbox.message WHERE message.id = retry.id)";

const DEAD: &str = "
DELETE FROM outbox.dead
WHERE target = $1 AND id >= $2 AND EXISTS (
    SELECT FROM outbox.message WHERE message.id = dead.id AND message.message_id = dead.message_id
)";

const PENDING: &str = "
SELECT count(*) FROM (SELECT FROM outbox.message WHERE id >= $1 LIMIT $2) AS pending";

const OTHERS: &str = "
SELECT target FROM outbox.ledger WHERE target <> $1 AND upper(settled) - 1 > {last_id}
ORDER BY target";

/// What the target had settled before, as it is recorded: nothing else knows it any more.
#[derive(Serialize)]
struct Before {
    settled: String,
}

/// Rebuilds the ledger of one target, holding `@floor` and the target's lease. It is recorded who decided
/// it, and why, with the ids that were settled and no longer are.
///
/// With `dry_run` everything is done, counted and rolled back.
///
/// # Errors
/// [`AdminError::Leased`] while a relay works on it, [`AdminError::UnknownTarget`],
/// [`AdminError::Busy`], the database's.
pub async fn rebuild(
    client: &mut Client,
    schema: &Schema,
    target: &str,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<Rebuilt, AdminError> {
    let transaction = floor::hold(client, schema).await?;
    let before = target::claim(&transaction, schema, target).await?.settled;
    let rebuilt = write(&transaction, schema, target).await?;
    let decided = Decided {
        command_id: Uuid::now_v7(),
        command: "ledger rebuild",
        target: Some(target),
        filter: &Before { settled: before.to_string() },
        rows: rebuilt.pending.rows.unsigned_abs(),
        ids: unsettled(before, rebuilt.settled_below),
        message_ids: None,
    };
    // Also where nothing is pending: the pipeline begins anew in any case.
    decision::record_always(&transaction, schema, decided, decision).await?;
    end(transaction, dry_run).await?;
    Ok(rebuilt)
}

async fn write(
    transaction: &Transaction<'_>,
    schema: &Schema,
    target: &str,
) -> Result<Rebuilt, Error> {
    let floor = identity::with_last_id(transaction, schema, FLOOR).await?;
    let floor_restarted = transaction.execute(&floor, &[]).await? == 1;
    let ledger = transaction.query_one(&schema.sql(LEDGER), &[&target]).await?;
    let settled_below: i64 = ledger.try_get("id")?;
    let hole_rows = transaction.execute(&schema.sql(HOLES), &[&target]).await?;
    transaction.execute(&schema.sql(WATERMARKS), &[&target]).await?;
    let from_there: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&target, &settled_below];
    let retry_rows = transaction.execute(&schema.sql(RETRIES), &from_there).await?;
    let dead_rows = transaction.execute(&schema.sql(DEAD), &from_there).await?;
    let limit = PENDING_COUNTED_MAX + 1;
    let pending = transaction.query_one(&schema.sql(PENDING), &[&settled_below, &limit]).await?;
    let others = identity::with_last_id(transaction, schema, OTHERS).await?;
    let others = transaction.query(&others, &[&target]).await?;
    Ok(Rebuilt {
        settled_below,
        epoch: ledger.try_get("epoch")?,
        pending: Count::up_to(pending.try_get(0)?),
        hole_rows,
        retry_rows,
        dead_rows,
        floor_restarted,
        others: others.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
    })
}

/// What was settled and does not lie below this id.
fn unsettled(mut settled: RangeSet, below: i64) -> RangeSet {
    settled.subtract(&(1..below).into());
    settled
}
