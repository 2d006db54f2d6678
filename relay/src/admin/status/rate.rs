//! How fast a target settles: the ids that its ledger gained between two looks, without those that
//! are holes (nothing was sent for them).

use std::collections::BTreeMap;

use time::OffsetDateTime;
use tokio_postgres::{Client, Error};

use crate::range::RangeSet;
use crate::schema::Schema;

/// One look at all ledgers.
pub(super) struct Sample {
    at: OffsetDateTime,
    settled: BTreeMap<String, RangeSet>,
}

const SAMPLE: &str = "
SELECT clock.now, ledger.target, ledger.settled::text
FROM (SELECT clock_timestamp() AS now) AS clock LEFT JOIN outbox.ledger ON true";

const HOLES: &str = "
SELECT coalesce(sum(upper(range) - lower(range)), 0)::bigint
FROM outbox.hole, unnest(ranges * $2::text::int8multirange) AS range
WHERE target = $1 AND ranges && $2::text::int8multirange";

pub(super) async fn sample(client: &Client, schema: &Schema) -> Result<Sample, Error> {
    let rows = client.query(&schema.sql(SAMPLE), &[]).await?;
    let clock = rows.first().expect("the clock is one row at least");
    let mut sample = Sample { at: clock.try_get(0)?, settled: BTreeMap::new() };
    for row in &rows {
        if let Some(target) = row.try_get::<_, Option<String>>(1)? {
            let settled = row.try_get::<_, String>(2)?.parse();
            let settled = settled.expect("a CHECK bounds the ledger to message ids");
            sample.settled.insert(target, settled);
        }
    }
    Ok(sample)
}

/// Messages settled a second since `before`, by target.
pub(super) async fn since(
    client: &Client,
    schema: &Schema,
    before: &Sample,
) -> Result<BTreeMap<String, f64>, Error> {
    let after = sample(client, schema).await?;
    let seconds = (after.at - before.at).as_seconds_f64();
    let mut rates = BTreeMap::new();
    for (target, mut gained) in after.settled {
        // A ledger that appeared or shrank meanwhile has no rate.
        let Some(settled) = before.settled.get(&target) else { continue };
        gained.subtract(settled);
        let mut holes = 0;
        if !gained.is_empty() {
            let row = client.query_one(&schema.sql(HOLES), &[&target, &gained.to_string()]).await?;
            holes = row.try_get::<_, i64>(0)?;
        }
        let messages = gained.ids_len().saturating_sub(holes.unsigned_abs());
        if seconds > 0.0 {
            rates.insert(target, messages as f64 / seconds);
        }
    }
    Ok(rates)
}
