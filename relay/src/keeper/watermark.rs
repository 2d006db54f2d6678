//! When ids were settled: `watermark(target, id, at)` = everything below `id` was settled at `at`.
//!
//! The keeper looks at the ledgers now and then and notes how far their contiguous part reaches.
//! It sees a settling after it happened, never before, and every row that is left out is covered by
//! a later one: whatever is skipped or thinned here makes rows look younger and keeps them longer.

use std::time::Duration;

use tokio_postgres::{Error, Transaction};

use crate::schema::Schema;

/// Watermarks of one target at most.
pub const WATERMARKS_MAX: i64 = 1_000;

/// Watermarks over the length of `keep`: rows are kept at most 1/500 longer than asked for (20
/// minutes on a week), and half of [`WATERMARKS_MAX`] is left as room.
const WATERMARKS_PER_KEEP: f64 = 500.0;

// A watermark in the future (the clock was set back) keeps new ones from being written until the
// clock has caught up: what was settled meanwhile then counts as settled at that moment.
const WRITE: &str = "
WITH ledger_prefix AS (
    SELECT ledger.target, meta.floor,
           least(
               (SELECT upper(range) FROM unnest(ledger.settled) AS range WHERE range @> meta.floor LIMIT 1),
               (SELECT min(lower(ranges)) FROM outbox.hole
                 WHERE hole.target = ledger.target AND dead_at IS NULL)
           ) AS id
    FROM outbox.meta, outbox.ledger
), newest AS (
    SELECT target, max(id) AS id, max(at) AS at FROM outbox.watermark GROUP BY target
)
INSERT INTO outbox.watermark (target, id, at)
SELECT ledger_prefix.target, ledger_prefix.id, now()
FROM ledger_prefix LEFT JOIN newest USING (target)
WHERE ledger_prefix.id > greatest(newest.id, ledger_prefix.floor)
  AND (newest.at IS NULL OR now() - newest.at >= make_interval(secs => $1))";

// Of no more use: those the floor has reached, and, of those that are old enough, all but the
// highest. What is still too many (keep was shortened and lengthened again) loses every second one.
const THIN: &str = "
DELETE FROM outbox.watermark USING (
    SELECT target, id, at, floor,
           max(id) FILTER (WHERE at <= now() - make_interval(secs => $1)) OVER (PARTITION BY target) AS aged,
           row_number() OVER (PARTITION BY target ORDER BY id DESC) AS rank,
           count(*) OVER (PARTITION BY target) AS total
    FROM outbox.watermark, outbox.meta
) AS old
WHERE watermark.target = old.target AND watermark.id = old.id
  AND (old.id <= floor
       OR (old.at <= now() - make_interval(secs => $1) AND old.id < aged)
       OR (total > $2 AND rank % 2 = 0))";

/// Notes how far each ledger reaches, unless that was done a short while ago. With `keep` zero
/// nothing needs to be known and nothing is written.
///
/// The transaction holds `@floor`: a rebuild deletes the watermarks of its target, and must not find
/// one written afterwards from the ledger before.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    schema: &Schema,
    keep: Duration,
) -> Result<u64, Error> {
    if keep.is_zero() {
        return Ok(0);
    }
    let interval = keep.as_secs_f64() / WATERMARKS_PER_KEEP;
    transaction.execute(&schema.sql(WRITE), &[&interval]).await
}

/// Deletes watermarks that are no longer needed, and every second one of a target that has more than
/// [`WATERMARKS_MAX`].
pub(super) async fn thin(
    transaction: &Transaction<'_>,
    schema: &Schema,
    keep: Duration,
) -> Result<u64, Error> {
    transaction.execute(&schema.sql(THIN), &[&keep.as_secs_f64(), &WATERMARKS_MAX]).await
}
