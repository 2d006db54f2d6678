//! How an inbox does: what gauges, `doctor` and people look at.

use serde::Serialize;
use tokio_postgres::{Client, Error};

use crate::schema::Schema;

/// The names of the gauges, of one inbox database each (label `inbox`).
pub mod gauge {
    /// Days from today on that have a partition without a gap; 0: the inbox stops tonight.
    pub const PARTITIONS_AHEAD: &str = "inbox_partitions_ahead";
    /// Seconds since 1970: ids of older days are stale.
    pub const HORIZON: &str = "inbox_horizon_timestamp_seconds";
    /// Bytes of the inbox's tables and indexes.
    pub const BYTES: &str = "inbox_bytes";
    /// Messages that wait for a person.
    pub const PARKED: &str = "inbox_parked";
    /// Seconds since 1970.
    pub const MAINTAINED: &str = "inbox_maintenance_last_success_timestamp_seconds";
    /// Idempotency keys whose attempt is at work.
    pub const KEYS_IN_PROGRESS: &str = "idempotency_in_progress";
    /// Idempotency keys whose attempt was lost, and that nobody has taken up.
    pub const KEYS_EXPIRED: &str = "idempotency_expired_leases";
}

/// How an inbox does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Days after today that have a partition, without a gap.
    pub partitions_ahead: i64,
    /// Ids of days before it are stale, as `YYYY-MM-DD`.
    pub kept_from: String,
    /// Its midnight, in seconds since 1970.
    pub horizon: f64,
    /// Bytes of all partitions, indexes included.
    pub bytes: i64,
    /// Rows, as the planner knows them.
    pub rows_estimated: i64,
    /// Failed messages that are still tried.
    pub retrying: i64,
    /// Messages that wait for a person.
    pub parked: i64,
    /// When the maintenance last ran, in seconds since 1970.
    pub maintained_at: Option<f64>,
    /// Idempotency keys whose attempt is at work.
    pub keys_in_progress: i64,
    /// Idempotency keys whose attempt was lost: to be resumed, or for a person to look at.
    pub keys_expired: i64,
}

// The view idempotency_state is its owner's, a consumer may ask the table.
// A gap ends the count: the first day without a partition is the day on which the inbox stops.
const STATS: &str = "
WITH today AS (SELECT (now() AT TIME ZONE 'UTC')::date AS day),
partition AS (
    SELECT c.oid, c.relname, c.reltuples
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'outbox.inbox'::regclass
)
SELECT
    (SELECT min(n) FROM today, generate_series(0, 1000) AS n
     WHERE NOT EXISTS (SELECT FROM partition WHERE relname = 'inbox_' || to_char(today.day + n, 'YYYYMMDD')))::int8 - 1,
    horizon.kept_from::text,
    extract(epoch FROM horizon.kept_from)::float8,
    (SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::int8 FROM partition),
    (SELECT coalesce(sum(greatest(reltuples, 0)), 0)::int8 FROM partition),
    (SELECT count(*) FROM outbox.inbox_failure WHERE parked_at IS NULL),
    (SELECT count(*) FROM outbox.inbox_failure WHERE parked_at IS NOT NULL),
    extract(epoch FROM horizon.maintained_at)::float8,
    (SELECT count(*) FROM outbox.idempotency_key WHERE status IS NULL AND lease_until > now()),
    (SELECT count(*) FROM outbox.idempotency_key WHERE status IS NULL AND lease_until <= now()
        AND NOT (suspended AND recovery_point = 'started'))
FROM outbox.inbox_horizon AS horizon";

/// Looks at an inbox.
///
/// # Errors
/// The database's; also that there is no inbox.
pub async fn stats(client: &Client, schema: &Schema) -> Result<Stats, Error> {
    let row = client.query_one(&schema.sql(STATS), &[]).await?;
    Ok(Stats {
        partitions_ahead: row.try_get(0)?,
        kept_from: row.try_get(1)?,
        horizon: row.try_get(2)?,
        bytes: row.try_get(3)?,
        rows_estimated: row.try_get(4)?,
        retrying: row.try_get(5)?,
        parked: row.try_get(6)?,
        maintained_at: row.try_get(7)?,
        keys_in_progress: row.try_get(8)?,
        keys_expired: row.try_get(9)?,
    })
}

impl Stats {
    /// Sets the gauges of the inbox of this name.
    pub fn publish(&self, inbox: &str) {
        let set = |name: &'static str, value: f64| {
            metrics::gauge!(name, "inbox" => inbox.to_owned()).set(value);
        };
        // A gauge is a float; these numbers are far below what one holds exactly.
        #[allow(clippy::cast_precision_loss)]
        let exact = |value: i64| value as f64;
        set(gauge::PARTITIONS_AHEAD, exact(self.partitions_ahead));
        set(gauge::HORIZON, self.horizon);
        set(gauge::BYTES, exact(self.bytes));
        set(gauge::PARKED, exact(self.parked));
        set(gauge::KEYS_IN_PROGRESS, exact(self.keys_in_progress));
        set(gauge::KEYS_EXPIRED, exact(self.keys_expired));
        if let Some(at) = self.maintained_at {
            set(gauge::MAINTAINED, at);
        }
    }
}
