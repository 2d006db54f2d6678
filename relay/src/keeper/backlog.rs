//! What is pending for a target: visible rows whose id its ledger misses, or has in an open hole.

use tokio_postgres::{Error, GenericClient};

use crate::schema::Schema;

/// The backlog of one target.
pub(crate) struct Backlog {
    /// How many messages, counted up to what was asked for.
    pub(crate) pending: i64,
    /// How long ago the one with the lowest id was written, in seconds.
    pub(crate) oldest_s: Option<f64>,
}

// Holes first and then the gaps, both ascending: where the count is cut, the lowest id is among what
// was counted. A range is one scan of the primary key, ids only; the age costs one row.
const PENDING: &str = "
WITH gap AS (
    SELECT lower(range) AS start, upper(range) AS stop
    FROM outbox.hole, unnest(ranges) AS range
    WHERE target = $1 AND dead_at IS NULL
    UNION ALL
    SELECT lower(range), coalesce(upper(range), 9223372036854775807)
    FROM outbox.ledger, unnest(int8multirange(int8range(1, NULL)) - settled) AS range
    WHERE target = $1
), pending AS MATERIALIZED (
    SELECT message.id FROM gap
    CROSS JOIN LATERAL (
        SELECT id FROM outbox.message WHERE id >= gap.start AND id < gap.stop
    ) AS message
    LIMIT $2
)
SELECT count(*),
       (SELECT extract(epoch FROM now() - created_at)::float8 FROM outbox.message
         WHERE id = (SELECT min(id) FROM pending)) AS oldest
FROM pending";

/// Counts at most `rows_max`; to be read with the settings of a scan.
pub(crate) async fn read(
    client: &impl GenericClient,
    schema: &Schema,
    target: &str,
    rows_max: i64,
) -> Result<Backlog, Error> {
    let row = client.query_one(&schema.sql(PENDING), &[&target, &rows_max]).await?;
    let oldest_s = row.try_get::<_, Option<f64>>("oldest")?.map(|age| age.max(0.0));
    Ok(Backlog { pending: row.try_get(0)?, oldest_s })
}
