//! Where the outbox and each target stand, in one snapshot.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use tokio_postgres::{Client, Error, GenericClient, IsolationLevel};

use crate::admin::backend::{self, Backend};
use crate::admin::parked::{self, Destination};
use crate::admin::unrouted::{self, Unsent, Untaken};
use crate::keeper::horizon::{self, Held};
use crate::keeper::{SCAN_SETTINGS, backlog};
use crate::schema::Schema;

mod rate;

/// Pending messages are counted exactly up to this number: about half a second of an index scan.
pub const PENDING_COUNTED_MAX: i64 = 1_000_000;

/// Parked destinations that are named for each target.
const PARKED_NAMED_MAX: i64 = 10;

/// A number of rows that was counted up to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How many.
    pub rows: i64,
    /// There are that many or more.
    pub at_least: bool,
}

impl Count {
    /// Of a count that stopped at [`PENDING_COUNTED_MAX`] + 1.
    pub(super) fn up_to(rows: i64) -> Self {
        Self { rows: rows.min(PENDING_COUNTED_MAX), at_least: rows > PENDING_COUNTED_MAX }
    }
}

/// The whole outbox.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The database's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Every message below it is deleted or kept for a retry.
    pub floor: i64,
    /// The last id that was drawn.
    pub last_id: i64,
    /// What keeps the floor where it is.
    pub held: Held,
    /// Rows the keeper ever found that should not have been there. Must be 0.
    pub late_rows: i64,
    /// The relay session that is the keeper.
    pub keeper: Option<Backend>,
    /// The open transactions that may still fill a hole, oldest first; named only if there is one.
    pub writers: Vec<Backend>,
    /// Topics that no target takes; `None` while the routes of a target are unknown.
    pub untaken: Option<Vec<Untaken>>,
    /// Every target that has a ledger or is configured, by name.
    pub targets: Vec<TargetStatus>,
}

/// One target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// It stands in the configuration that this command was given.
    pub configured: bool,
    /// It has a ledger. One that is only configured has none until a relay has run.
    pub started: bool,
    /// The session that holds its lease.
    pub leader: Option<Backend>,
    /// Committed messages that are not settled.
    pub pending: Count,
    /// How long ago the pending message with the lowest id was written.
    pub oldest_pending_s: Option<f64>,
    /// Messages that are set aside, by class.
    pub retry: BTreeMap<String, i64>,
    /// The parked destinations with the most rows, at most ten.
    pub parked: Vec<Destination>,
    /// Topics that were settled unsent and that the target's routes take by now.
    pub unsent: Vec<Unsent>,
    /// Messages that were given up, those that are requeued not among them.
    pub dead: i64,
    /// Ids read past that a transaction may still commit.
    pub open_holes: Holes,
    /// Ids proved dead that retention has not passed.
    pub dead_ranges: i64,
    /// The last mark.
    #[serde(with = "time::serde::rfc3339::option")]
    pub marked_at: Option<OffsetDateTime>,
    /// Messages settled a second, measured while this command waited.
    pub settled_per_s: Option<f64>,
}

/// Open holes of a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Holes {
    /// How many ranges.
    pub ranges: i64,
    /// How many ids.
    pub ids: i64,
    /// The lowest id.
    pub lowest: Option<i64>,
}

const META: &str = "SELECT now(), late_rows FROM outbox.meta";

const TARGETS: &str = "
SELECT ledger.target, ledger.marked_at,
       (SELECT count(*) FROM outbox.dead WHERE dead.target = ledger.target AND NOT EXISTS (
           SELECT FROM outbox.retry WHERE retry.target = dead.target AND retry.id = dead.id
             AND retry.class <> 'poison')) AS dead
FROM outbox.ledger ORDER BY ledger.target";

const RETRY: &str =
    "SELECT class, count(*) FROM outbox.retry WHERE target = $1 GROUP BY class ORDER BY class";

const HOLES: &str = "
SELECT count(*) FILTER (WHERE dead_at IS NULL) AS ranges,
       coalesce(sum(upper(range) - lower(range)) FILTER (WHERE dead_at IS NULL), 0)::bigint AS ids,
       min(lower(range)) FILTER (WHERE dead_at IS NULL) AS lowest,
       count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead_ranges
FROM outbox.hole, unnest(ranges) AS range WHERE target = $1";

/// Reads everything. `configured`: the names in the configuration; `sample`: how long to measure the
/// rate, zero for not at all; `keep`: the configured retention, which says what holds the floor.
///
/// # Errors
/// The database's.
pub async fn status(
    client: &mut Client,
    schema: &Schema,
    configured: &[String],
    keep: Duration,
    sample: Duration,
) -> Result<Status, Error> {
    let before = rate::sample(client, schema).await?;
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    transaction.batch_execute(SCAN_SETTINGS).await?;
    let mut status = read(&transaction, schema, configured, keep).await?;
    transaction.commit().await?;
    if !sample.is_zero() {
        tokio::time::sleep(sample).await;
        let rates = rate::since(client, schema, &before).await?;
        for target in &mut status.targets {
            target.settled_per_s = rates.get(&target.name).copied();
        }
    }
    Ok(status)
}

async fn read(
    client: &impl GenericClient,
    schema: &Schema,
    configured: &[String],
    keep: Duration,
) -> Result<Status, Error> {
    let meta = client.query_one(&schema.sql(META), &[]).await?;
    let horizon = horizon::read(client, schema, keep).await?;
    let routing = unrouted::routing(client, schema).await?;
    let mut targets = Vec::new();
    for row in client.query(&schema.sql(TARGETS), &[]).await? {
        let mut target = TargetStatus::new(row.get("target"), configured);
        target.started = true;
        target.marked_at = row.get("marked_at");
        target.dead = row.get("dead");
        target.unsent = routing.unsent(&target.name);
        fill(client, schema, &mut target).await?;
        targets.push(target);
    }
    for name in configured {
        if targets.iter().all(|target| target.name != *name) {
            targets.push(TargetStatus::new(name.clone(), configured));
        }
    }
    targets.sort_by(|a, b| a.name.cmp(&b.name));

    let holes = targets.iter().any(|target| target.open_holes.ranges > 0);
    let keeper = backend::lock_holder(client, schema, "@keeper").await?;
    let mut writers = if holes { backend::writers(client, schema).await? } else { Vec::new() };
    // It deletes, which takes the same lock, and draws no id.
    writers.retain(|writer| keeper.as_ref().is_none_or(|keeper| writer.pid != keeper.pid));
    Ok(Status {
        at: meta.get(0),
        floor: horizon.floor,
        last_id: horizon.last_id,
        held: horizon.limit().held,
        late_rows: meta.get(1),
        keeper,
        writers,
        untaken: routing.untaken(),
        targets,
    })
}

async fn fill(
    client: &impl GenericClient,
    schema: &Schema,
    target: &mut TargetStatus,
) -> Result<(), Error> {
    target.leader = backend::lock_holder(client, schema, &target.name).await?;
    let backlog = backlog::read(client, schema, &target.name, PENDING_COUNTED_MAX + 1).await?;
    target.pending = Count::up_to(backlog.pending);
    target.oldest_pending_s = backlog.oldest_s;
    for row in client.query(&schema.sql(RETRY), &[&target.name]).await? {
        target.retry.insert(row.get(0), row.get(1));
    }
    if target.retry.contains_key("parked") {
        target.parked = parked::list(client, schema, &target.name, PARKED_NAMED_MAX).await?;
    }
    let row = client.query_one(&schema.sql(HOLES), &[&target.name]).await?;
    target.open_holes =
        Holes { ranges: row.get("ranges"), ids: row.get("ids"), lowest: row.get("lowest") };
    target.dead_ranges = row.get("dead_ranges");
    Ok(())
}

impl TargetStatus {
    fn new(name: String, configured: &[String]) -> Self {
        Self {
            configured: configured.contains(&name),
            name,
            started: false,
            leader: None,
            pending: Count { rows: 0, at_least: false },
            oldest_pending_s: None,
            retry: BTreeMap::new(),
            parked: Vec::new(),
            unsent: Vec::new(),
            dead: 0,
            open_holes: Holes::default(),
            dead_ranges: 0,
            marked_at: None,
            settled_per_s: None,
        }
    }
}
