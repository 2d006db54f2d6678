//! Puts the rows of dead ranges together: a mark writes a row of its own for what it proved dead, often
//! of a single range, and everything that looks at dead ranges pays per row.
//!
//! Only the keeper changes a dead row (pipelines insert them; removal and rebuild hold `@floor`), so
//! nothing is lost between reading and writing it. Ranges are put side by side, never merged over a
//! live id.

use tokio_postgres::{Error, Transaction};

use crate::schema::Schema;

/// Rows that are put together in one round.
const ROWS_MAX: i64 = 20_000;

/// Fewer rows of a target are not worth it.
const ROWS_MIN: i64 = 100;

/// Ranges in one row: a multirange of that length is about 20 kB.
const RANGES_MAX: i64 = 1_000;

// Small by the stored size, which costs no look at the value: 2,000 bytes are about 100 ranges.
const COMPACT: &str = "
WITH small AS MATERIALIZED (
    SELECT hole_id, target, count(*) OVER (PARTITION BY target) AS total
    FROM (
        SELECT hole_id, target FROM outbox.hole
        WHERE dead_at IS NOT NULL AND pg_column_size(ranges) < 2000
        ORDER BY target, hole_id LIMIT $1
    ) AS one
), taken AS (
    DELETE FROM outbox.hole USING small
    WHERE hole.hole_id = small.hole_id AND total >= $2
    RETURNING hole.target, hole.ranges, hole.dead_at
), piece AS (
    SELECT taken.target, taken.dead_at, range,
           (row_number() OVER (PARTITION BY taken.target ORDER BY lower(range)) - 1) / $3 AS part
    FROM taken, unnest(taken.ranges) AS range
)
INSERT INTO outbox.hole (target, ranges, dead_at)
SELECT target, range_agg(range), max(dead_at) FROM piece GROUP BY target, part";

/// Puts small rows together, at most so many a round; how many rows came of it.
pub(super) async fn compact(transaction: &Transaction<'_>, schema: &Schema) -> Result<u64, Error> {
    transaction.execute(&schema.sql(COMPACT), &[&ROWS_MAX, &ROWS_MIN, &RANGES_MAX]).await
}
