//! What a piece of a replay shows: the chosen messages, and where each stands for the target.

use std::collections::BTreeSet;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Transaction};

use super::cursor::{At, PIECE_ROWS, Part};
use super::{Choice, Request};
use crate::admin::unrouted::IS_UNROUTED;
use crate::schema::Schema;

/// What a piece shows.
pub(super) struct Looked {
    pub(super) rows: Vec<Row>,
    pub(super) missing: Vec<i64>,
    pub(super) at: At,
}

const BY_ID: &str =
    "SELECT id, topic, type, key, created_at FROM outbox.message WHERE id = ANY ($5)";

const BY_RANGE: &str = "
SELECT id, topic, type, key, created_at FROM outbox.message
WHERE id > $5 AND id <= $6 ORDER BY id LIMIT $7";

// What of the ledger and of its open holes lies within the piece is cut out once: both can be long,
// and would be unpacked anew for each row.
const LOOK: &str = "
WITH piece AS MATERIALIZED ({piece}), ends AS MATERIALIZED (
    SELECT int8range(min(id), max(id), '[]') AS ids, max(id) AS last, count(*) AS rows FROM piece
), done AS MATERIALIZED (
    SELECT settled * int8multirange(ends.ids) - coalesce((
        SELECT range_agg(range) FROM outbox.hole, unnest(ranges) AS range
        WHERE hole.target = $1 AND dead_at IS NULL AND ranges && ends.ids
    ), '{}') AS settled
    FROM outbox.ledger, ends WHERE ledger.target = $1
)
SELECT chosen.id, topic, type, ends.last, ends.rows, done.settled @> chosen.id AS settled,
       EXISTS (SELECT FROM outbox.retry WHERE retry.target = $1 AND retry.id = chosen.id)
       OR EXISTS (SELECT FROM outbox.dead WHERE dead.target = $1 AND dead.id = chosen.id) AS set_aside,
       {unrouted} AS unrouted
FROM done, ends LEFT JOIN (
    SELECT * FROM piece
    WHERE ($2::text IS NULL OR key = $2)
      AND ($3::timestamptz IS NULL OR created_at >= $3)
      AND ($4::timestamptz IS NULL OR created_at < $4)
) AS chosen ON true
ORDER BY chosen.id";

const THERE: &str = "SELECT id FROM outbox.message WHERE id = ANY ($1)";

pub(super) async fn look(
    transaction: &Transaction<'_>,
    schema: &Schema,
    request: &Request<'_>,
    part: &Part,
    last: i64,
) -> Result<Looked, Error> {
    let Choice { key, from, to, .. } = request.choice;
    let limit = i64::try_from(PIECE_ROWS).unwrap_or(i64::MAX);
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&request.target, key, from, to];
    let (piece, end) = match part {
        Part::Ids(ids) => {
            parameters.push(ids);
            (BY_ID, ids.last().copied().unwrap_or(0))
        }
        Part::Range { end, .. } => (BY_RANGE, end.unwrap_or(last)),
    };
    if let Part::Range { after, .. } = part {
        parameters.extend::<[&(dyn ToSql + Sync); 3]>([after, &end, &limit]);
    }
    // Asked only where it matters: the message `m` of that question is `chosen` here.
    let unrouted = if request.choice.unrouted {
        IS_UNROUTED.replace("m.", "chosen.")
    } else {
        "false".to_owned()
    };
    let text = schema.sql(&LOOK.replace("{piece}", piece).replace("{unrouted}", &unrouted));
    let rows = transaction.query(&text, &parameters).await?;
    let first = rows.first();
    let whole = first.is_none_or(|row| row.get::<_, i64>("rows") < limit);
    let reached = first.and_then(|row| row.get("last")).unwrap_or(end);
    let (id, missing) = match part {
        Part::Ids(ids) => {
            let there = transaction.query(&schema.sql(THERE), &[ids]).await?;
            let there: BTreeSet<i64> = there.iter().map(|row| row.get(0)).collect();
            (end, ids.iter().copied().filter(|id| !there.contains(id)).collect())
        }
        Part::Range { .. } => (if whole { end } else { reached }, Vec::new()),
    };
    Ok(Looked { rows, missing, at: At { id, end } })
}
