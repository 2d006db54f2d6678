//! Looks for rows that were wrongly given up, and hands them over for delivery. It must find nothing.
//!
//! Two kinds: a row that stands in a dead range of a target (its transaction was proved gone, and
//! was not), and a row below the floor that is not in `kept` (it committed after the floor had
//! passed its id). An id drawn hours before, OVERRIDING SYSTEM VALUE or a restarted sequence end here:
//! they cost order, never a message.
//!
//! Races: a piece holds `@floor`, so no floor moves, no ledger is made or rebuilt and no message is
//! deleted meanwhile. What it looks at and what it inserts is one statement with one snapshot. A range
//! that turns dead, or a row that commits, after that snapshot is found by a later pass: ranges are only
//! forgotten, and the floor only moves, in a transaction that looks at them itself.

use serde::Serialize;
use tokio_postgres::{Client, Error, Transaction};

use crate::keeper::{floor, late};
use crate::schema::Schema;

/// Dead ranges looked at in one piece; each is one descent of the primary key: about 0.1 s.
const RANGES_MAX: i64 = 50_000;

/// Rows below the floor looked at, and late rows taken over, in one piece.
const ROWS_MAX: i64 = 20_000;

/// Where the sweep stands; it begins at the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Position {
    /// Among the dead ranges, in the order of their rows.
    DeadRanges {
        /// The row of `hole`.
        hole_id: i64,
        /// The lower bound of the last range of it that was looked at.
        after: i64,
    },
    /// Below the floor.
    BelowFloor {
        /// From this id on.
        from: i64,
    },
}

impl Default for Position {
    fn default() -> Self {
        Self::DeadRanges { hole_id: 0, after: 0 }
    }
}

/// What one piece found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// Rows put into `retry` as late, counted per target.
    pub late: u64,
    /// The lowest late id, for a warning.
    pub lowest: Option<i64>,
    /// Where to go on; `None`: the pass is complete.
    pub next: Option<Position>,
}

/// Looks at one bounded piece.
///
/// Cancel safety: dropping the future rolls the piece back.
///
/// # Errors
/// The database's; SQLSTATE 55P03 if `@floor` is held for longer than `lock_timeout`.
pub async fn piece(
    client: &mut Client,
    schema: &Schema,
    position: Position,
) -> Result<Piece, Error> {
    let transaction = floor::hold(client, schema).await?;
    transaction.batch_execute(super::SCAN_SETTINGS).await?;
    let piece = match position {
        Position::DeadRanges { hole_id, after } => {
            dead_ranges(&transaction, schema, hole_id, after).await?
        }
        Position::BelowFloor { from } => below_floor(&transaction, schema, from).await?,
    };
    late::add(&transaction, schema, piece.late).await?;
    transaction.commit().await?;
    Ok(piece)
}

// Relies on the primary keys of hole and message. The ids found leave the dead ranges (below): they are
// in a retry row now, and would be found again by the next pass, after their delivery.
const IN_DEAD_RANGES: &str = "
WITH piece AS MATERIALIZED (
    -- Row by row along the primary key (an incremental sort), and no further than the limit.
    SELECT hole_id, target, range
    FROM outbox.hole
    CROSS JOIN LATERAL unnest(ranges) AS range
    WHERE hole_id >= $1 AND dead_at IS NOT NULL AND (hole_id, lower(range)) > ($1, $2)
    ORDER BY hole_id, lower(range)
    LIMIT $3
), found AS MATERIALIZED (
    SELECT piece.hole_id, piece.target, message.id, message.key
    FROM piece
    JOIN outbox.message ON message.id >= lower(range) AND message.id < upper(range)
    LIMIT $4
), late AS (
    INSERT INTO outbox.retry (target, id, key, holds, attempts, next_at, class)
    SELECT target, id, key, false, 0, now(), 'late' FROM found
    ON CONFLICT (target, id) DO NOTHING
    RETURNING id
), by_hole AS (
    SELECT hole_id, range_agg(int8range(id, id + 1)) AS ids FROM found GROUP BY hole_id
)
SELECT (SELECT count(*) FROM late) AS late,
       (SELECT min(id) FROM found) AS lowest,
       (SELECT count(*) FROM found) AS found,
       (SELECT count(*) FROM piece) AS looked_at,
       (SELECT hole_id FROM piece ORDER BY hole_id DESC LIMIT 1) AS last_hole,
       (SELECT lower(range) FROM piece ORDER BY hole_id DESC, range DESC LIMIT 1) AS last_range,
       (SELECT array_agg(hole_id ORDER BY hole_id) FROM by_hole) AS hole_ids,
       (SELECT array_agg(ids::text ORDER BY hole_id) FROM by_hole) AS ids";

const EMPTIED: &str =
    "DELETE FROM outbox.hole WHERE hole_id = $1 AND ranges <@ $2::text::int8multirange";

const TAKE_OUT: &str = "
UPDATE outbox.hole SET ranges = ranges - $2::text::int8multirange
WHERE hole_id = $1 AND ranges && $2::text::int8multirange";

async fn dead_ranges(
    transaction: &Transaction<'_>,
    schema: &Schema,
    hole_id: i64,
    after: i64,
) -> Result<Piece, Error> {
    let text = schema.sql(IN_DEAD_RANGES);
    let row = transaction.query_one(&text, &[&hole_id, &after, &RANGES_MAX, &ROWS_MAX]).await?;
    let hole_ids: Vec<i64> = row.try_get::<_, Option<_>>("hole_ids")?.unwrap_or_default();
    let ids: Vec<String> = row.try_get::<_, Option<_>>("ids")?.unwrap_or_default();
    for (hole_id, ids) in hole_ids.iter().zip(&ids) {
        transaction.execute(&schema.sql(EMPTIED), &[hole_id, ids]).await?;
        transaction.execute(&schema.sql(TAKE_OUT), &[hole_id, ids]).await?;
    }
    let cut = row.try_get::<_, i64>("found")? == ROWS_MAX;
    let last = row.try_get::<_, Option<i64>>("last_hole")?.zip(row.try_get("last_range")?);
    let next = match last {
        // More may stand in the same ranges.
        _ if cut => Position::DeadRanges { hole_id, after },
        Some((hole_id, after)) if row.try_get::<_, i64>("looked_at")? == RANGES_MAX => {
            Position::DeadRanges { hole_id, after }
        }
        _ => Position::BelowFloor { from: 1 },
    };
    Ok(Piece {
        late: super::count(&row, "late")?,
        lowest: row.try_get("lowest")?,
        next: Some(next),
    })
}

// A target whose ledger misses the id (it was rebuilt), or has it in an open hole, reads the row by
// itself. Without any ledger nobody is owed anything. Relies on the primary keys of message and kept.
const BELOW_FLOOR: &str = "
WITH piece AS MATERIALIZED (
    SELECT message.id, message.key FROM outbox.message, outbox.meta
    WHERE message.id >= $1 AND message.id < meta.floor AND EXISTS (SELECT FROM outbox.ledger)
    ORDER BY message.id LIMIT $2
), found AS MATERIALIZED (
    SELECT id, key FROM piece WHERE NOT EXISTS (SELECT FROM outbox.kept WHERE kept.id = piece.id)
), low_hole AS MATERIALIZED (
    SELECT target, ranges FROM outbox.hole, outbox.meta
    WHERE dead_at IS NULL AND lower(ranges) < floor
), late AS (
    INSERT INTO outbox.retry (target, id, key, holds, attempts, next_at, class)
    SELECT ledger.target, found.id, found.key, false, 0, now(), 'late'
    FROM found JOIN outbox.ledger ON ledger.settled @> found.id
    WHERE NOT EXISTS (
        SELECT FROM low_hole WHERE low_hole.target = ledger.target AND low_hole.ranges @> found.id
    )
    ON CONFLICT (target, id) DO NOTHING
    RETURNING id
), kept AS (
    INSERT INTO outbox.kept (id) SELECT id FROM found ON CONFLICT (id) DO NOTHING
)
SELECT (SELECT count(*) FROM late) AS late,
       (SELECT min(id) FROM found) AS lowest,
       (SELECT count(*) FROM piece) AS looked_at,
       (SELECT max(id) FROM piece) AS last";

async fn below_floor(
    transaction: &Transaction<'_>,
    schema: &Schema,
    from: i64,
) -> Result<Piece, Error> {
    let row = transaction.query_one(&schema.sql(BELOW_FLOOR), &[&from, &ROWS_MAX]).await?;
    let last: Option<i64> = row.try_get("last")?;
    let next = match last {
        Some(last) if row.try_get::<_, i64>("looked_at")? == ROWS_MAX => {
            Some(Position::BelowFloor { from: last + 1 })
        }
        _ => None,
    };
    Ok(Piece { late: super::count(&row, "late")?, lowest: row.try_get("lowest")?, next })
}
