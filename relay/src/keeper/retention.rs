//! Deletes messages that every target has settled: one transaction a round.
//!
//! # Why no message is lost
//!
//! The transaction holds `@floor`, runs READ COMMITTED, and consists of several statements, each with
//! a snapshot of its own. Between them marks and writers commit. What must hold is that a row which is
//! deleted was *seen* by every target, and is needed by no retry row. Row `r`, target `t`:
//!
//! 1. *What the horizon found stays true.* It found that every ledger contains every id below the new
//!    floor, and that no open hole does. Ledgers only grow, and a mark opens holes only where it
//!    settles, thus above. Rebuild, replay, requeue, a new target: they need `@floor`.
//! 2. *Which ids are dead stays true.* A range turns dead from being an open hole, and there was none
//!    below the new floor; only the keeper takes a range away.
//! 3. *Which ids are needed by a retry row can only become fewer.* A mark inserts a retry row in the
//!    statement that settles its id, which has happened; other insertions need `@floor`.
//! 4. *A row that commits meanwhile.* `r` is below the new floor and was invisible when `t` settled its
//!    id. A reader settles an unseen id only as a hole, so `r` stands in a dead range of `t` (an open
//!    one is excluded by 1). If the statement that deletes sees `r`, it sees that range as well, in one
//!    snapshot: `r` becomes late, and is kept. If not, `r` is not among the rows it deletes: `r` stays,
//!    below the floor and not in `kept`, which is what the sweep looks for.
//!
//! Dead ranges, retry rows and the deletion are therefore CTEs of *one* statement: it deletes exactly
//! the rows that it looked at. Trimming the dead ranges may follow in a statement of its own, by 2.
//! It waits for a mark that is writing the same row of `hole`, and then works on what that left.

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::{Client, Error, IsolationLevel, Transaction};

use crate::config::RetentionConfig;
use crate::keeper::horizon::{self, Held, Limit};
use crate::keeper::{compact, floor, late, watermark};
use crate::schema::Schema;

/// What one round did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Round {
    /// Where the floor was.
    pub floor_before: i64,
    /// Where it is.
    pub floor: i64,
    /// Messages deleted.
    pub deleted: u64,
    /// Messages below the floor that a retry row still needs.
    pub kept: u64,
    /// Rows that stood in a dead range: `retry` rows made for them. Must be 0.
    pub late: u64,
    /// The round stopped at one of its own limits: the next has work at once.
    pub more: bool,
    /// What stands at the floor.
    pub held: Held,
}

/// What a person asks for, in the place of `keep` and `keep_rows_max`.
#[derive(Debug, Clone, Copy)]
pub struct Prune {
    /// What all targets have settled so long ago.
    pub older_than: Duration,
    /// With a lower id than this.
    pub below_id: Option<i64>,
}

/// One transaction of retention: moves the floor as far as allowed, by at most
/// `config.delete_rows_max` messages and at most `dead_ranges_max` dead ranges of all targets.
///
/// A bound on what *one transaction* passes, since a floor that stood still above a total number of
/// dead ranges could never come below it again: only its advance forgets them.
///
/// Cancel safety: dropping the future rolls the round back.
///
/// # Errors
/// The database's; SQLSTATE 55P03 if `@floor` is held for longer than `lock_timeout`.
pub async fn round(
    client: &mut Client,
    schema: &Schema,
    config: &RetentionConfig,
    dead_ranges_max: usize,
) -> Result<Round, Error> {
    let transaction = floor::hold(client, schema).await?;
    let round = pass(&transaction, schema, config, dead_ranges_max, None).await?;
    transaction.commit().await?;
    Ok(round)
}

/// A round within a transaction that holds `@floor`; with `prune`, the part of it that a person asks for.
///
/// # Errors
/// The database's.
pub(crate) async fn pass(
    transaction: &Transaction<'_>,
    schema: &Schema,
    config: &RetentionConfig,
    dead_ranges_max: usize,
    prune: Option<Prune>,
) -> Result<Round, Error> {
    transaction.batch_execute(super::DELETE_SETTINGS).await?;
    compact::compact(transaction, schema).await?;
    // Watermarks are the keeper's: as far apart as `keep` wants them, whatever is pruned.
    watermark::write(transaction, schema, config.keep).await?;

    let keep = prune.map_or(config.keep, |prune| prune.older_than);
    let keep_rows_max = prune.map_or(config.keep_rows_max, |_| u64::MAX);
    let config = RetentionConfig { keep_rows_max, ..config.clone() };
    let horizon = horizon::read(transaction, schema, keep).await?;
    let floor_before = horizon.floor;
    let limit = horizon.limit().below(prune.and_then(|prune| prune.below_id), floor_before);
    // Every target has settled this range: which of them counts the dead ids does not matter.
    let counted = horizon.ledgers.first().map_or("", |ledger| &ledger.target);
    let step = step(transaction, schema, &config, floor_before, limit, counted).await?;
    let step = pass_dead_ranges(transaction, schema, dead_ranges_max, floor_before, step).await?;

    let mut round = Round {
        floor_before,
        floor: step.floor,
        deleted: 0,
        kept: 0,
        late: 0,
        more: step.more,
        held: step.held,
    };
    if step.floor > floor_before {
        let ids: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&floor_before, &step.floor];
        let row = transaction.query_one(&schema.sql(DELETE), &ids).await?;
        round.deleted = super::count(&row, "deleted");
        round.kept = super::count(&row, "kept");
        round.late = super::count(&row, "late");
        transaction.execute(&schema.sql(FORGET), &[&step.floor]).await?;
        transaction.execute(&schema.sql(TRIM), &[&step.floor]).await?;
        transaction.execute(&schema.sql(MOVE_FLOOR), &[&step.floor, &floor_before]).await?;
        late::add(transaction, schema, round.late).await?;
        // Last: a mark that changes such a row waits for this transaction.
        transaction.execute(&schema.sql(FORGET_UNROUTED), &[&step.floor]).await?;
        transaction.execute(&schema.sql(TRIM_UNROUTED), &[&step.floor]).await?;
    }
    watermark::thin(transaction, schema, config.keep).await?;
    Ok(round)
}

const FORESEE: &str = "
SELECT (SELECT count(*) FROM outbox.message WHERE id >= $1 AND id < $2) - needed.rows AS deleted,
       needed.rows AS kept, 0::bigint AS late
FROM (
    SELECT count(DISTINCT message.id) AS rows
    FROM outbox.ledger JOIN outbox.retry USING (target) JOIN outbox.message USING (id)
    WHERE retry.id >= $1 AND retry.id < $2
) AS needed";

/// What pruning would do by now. Late rows are found only by those who delete.
///
/// # Errors
/// The database's.
pub(crate) async fn foresee(
    client: &mut Client,
    schema: &Schema,
    prune: Prune,
) -> Result<Round, Error> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    transaction.batch_execute(super::SCAN_SETTINGS).await?;
    let horizon = horizon::read(&transaction, schema, prune.older_than).await?;
    let limit = horizon.limit().below(prune.below_id, horizon.floor);
    let row = transaction.query_one(&schema.sql(FORESEE), &[&horizon.floor, &limit.aged]).await?;
    transaction.commit().await?;
    Ok(Round {
        floor_before: horizon.floor,
        floor: limit.aged,
        deleted: super::count(&row, "deleted"),
        kept: super::count(&row, "kept"),
        late: super::count(&row, "late"),
        more: false,
        held: limit.held,
    })
}

/// Where the floor goes.
struct Step {
    floor: i64,
    more: bool,
    held: Held,
}

// The id with so many rows before it, from the floor on: an index-only scan of that many entries.
const NTH: &str = "
SELECT id FROM outbox.message WHERE id >= $1 AND id < $2 ORDER BY id OFFSET $3 LIMIT 1";

// Every settled id is a row or was proved dead, so the rows need not be counted. Without the operator
// for intersection, which costs five times as much: 0.35 s for a million ranges.
const DEAD_IDS: &str = "
SELECT coalesce(sum(least(upper(range), $3) - greatest(lower(range), $2)), 0)::bigint
FROM outbox.hole, unnest(hole.ranges) AS range
WHERE target = $1 AND dead_at IS NOT NULL AND range && int8range($2, $3)";

/// By age or by number, whichever goes further, and no further than a transaction may delete.
async fn step(
    transaction: &Transaction<'_>,
    schema: &Schema,
    config: &RetentionConfig,
    floor: i64,
    limit: Limit,
    counted: &str,
) -> Result<Step, Error> {
    if limit.settled <= floor {
        return Ok(Step { floor, more: false, held: limit.held });
    }
    let rows_max = i64::try_from(config.delete_rows_max).unwrap_or(i64::MAX);
    let nth = async |rows: i64| -> Result<Option<i64>, Error> {
        let text = schema.sql(NTH);
        let row = transaction.query_opt(&text, &[&floor, &limit.settled, &rows]).await?;
        Ok(row.map(|row| row.get(0)))
    };
    let cut = nth(rows_max).await?.unwrap_or(limit.settled);
    if limit.aged >= cut {
        return Ok(Step { floor: cut, more: cut < limit.aged, held: limit.held });
    }

    let keep_rows_max = i64::try_from(config.keep_rows_max).unwrap_or(i64::MAX);
    let ids = limit.settled - floor;
    let mut by_number = floor;
    let mut excess = 0;
    if ids > keep_rows_max {
        let text = schema.sql(DEAD_IDS);
        let row = transaction.query_one(&text, &[&counted, &floor, &limit.settled]).await?;
        excess = ids - row.get::<_, i64>(0) - keep_rows_max;
    }
    if excess > 0 {
        by_number = nth(excess.min(rows_max)).await?.unwrap_or(limit.settled);
    }
    Ok(Step { floor: by_number.max(limit.aged), more: excess > rows_max, held: limit.held })
}

// Distinct, so that ranges of several targets at one id cannot keep the floor from getting past it.
const DEAD_RANGE_AT: &str = "
SELECT DISTINCT lower(range)
FROM outbox.hole, unnest(hole.ranges * int8multirange(int8range($1, $2))) AS range
WHERE dead_at IS NOT NULL AND hole.ranges && int8range($1, $2)
ORDER BY 1 OFFSET $3 LIMIT 1";

/// Stops the step before the dead range number `dead_ranges_max` + 1.
async fn pass_dead_ranges(
    transaction: &Transaction<'_>,
    schema: &Schema,
    dead_ranges_max: usize,
    floor: i64,
    step: Step,
) -> Result<Step, Error> {
    if step.floor <= floor {
        return Ok(step);
    }
    let max = i64::try_from(dead_ranges_max.max(1)).unwrap_or(i64::MAX);
    let row =
        transaction.query_opt(&schema.sql(DEAD_RANGE_AT), &[&floor, &step.floor, &max]).await?;
    match row.map(|row| row.get::<_, i64>(0)) {
        Some(id) => Ok(Step { floor: id, more: true, held: Held::DeadRanges { id } }),
        None => Ok(step),
    }
}

// Relies on message's and retry's primary keys: both are scanned by a range of ids.
const DELETE: &str = "
WITH found AS MATERIALIZED (
    SELECT hole.target, message.id, message.key
    FROM outbox.hole
    CROSS JOIN LATERAL unnest(hole.ranges * int8multirange(int8range($1, $2))) AS range
    JOIN outbox.message ON message.id >= lower(range) AND message.id < upper(range)
    WHERE hole.dead_at IS NOT NULL AND hole.ranges && int8range($1, $2)
), late AS (
    INSERT INTO outbox.retry (target, id, key, holds, attempts, next_at, class)
    SELECT target, id, key, false, 0, now(), 'late' FROM found
    ON CONFLICT (target, id) DO NOTHING
    RETURNING id
), needed AS MATERIALIZED (
    SELECT id FROM found
    UNION
    SELECT retry.id
    FROM outbox.ledger
    JOIN outbox.retry ON retry.target = ledger.target AND retry.id >= $1 AND retry.id < $2
), kept AS (
    -- A retry row whose message is gone is served from its dead copy and keeps nothing.
    INSERT INTO outbox.kept (id)
    SELECT id FROM needed JOIN outbox.message USING (id)
    ON CONFLICT (id) DO NOTHING
    RETURNING id
), deleted AS (
    DELETE FROM outbox.message
    WHERE id >= $1 AND id < $2 AND NOT EXISTS (SELECT FROM needed WHERE needed.id = message.id)
    RETURNING id
)
SELECT (SELECT count(*) FROM deleted) AS deleted,
       (SELECT count(*) FROM kept) AS kept,
       (SELECT count(*) FROM late) AS late";

const FORGET: &str = "
DELETE FROM outbox.hole WHERE dead_at IS NOT NULL AND ranges <@ int8range(1, $1)";

const TRIM: &str = "
UPDATE outbox.hole SET ranges = ranges - int8multirange(int8range(1, $1))
WHERE dead_at IS NOT NULL AND ranges && int8range(1, $1)";

// A message below the floor that something still needs is still there to be asked about.
const FORGET_UNROUTED: &str = "
DELETE FROM outbox.unrouted
WHERE isempty(ids) OR upper(ids) <= $1 AND NOT EXISTS (
    SELECT FROM outbox.kept WHERE kept.id >= lower(ids) AND kept.id < upper(ids)
)";

// Only what has become long: a set of a few ranges costs nothing, a rewritten row does.
const TRIM_UNROUTED: &str = "
UPDATE outbox.unrouted SET ids = ids - int8multirange(int8range(1, $1))
WHERE pg_column_size(ids) > 1000 AND lower(ids) < $1 AND NOT EXISTS (
    SELECT FROM outbox.kept WHERE kept.id >= lower(ids) AND kept.id < $1
)";

const MOVE_FLOOR: &str = "UPDATE outbox.meta SET floor = $1 WHERE floor = $2";
