//! What the keeper shows to Prometheus: what it does, and of each target what only the database knows.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, counter, gauge};
use tokio_postgres::{Client, Error};

use super::horizon::Held;
use super::{SCAN_SETTINGS, backlog};
use crate::schema::Schema;
use crate::telemetry::metric;

/// Rows are counted up to this number, some ten milliseconds of an index scan; `status` counts further.
const COUNTED_ROWS: i64 = 100_000;

/// Shows one keeper, from its election to the loss of its session.
pub(super) struct Meter {
    elected: Gauge,
    success: Gauge,
    floor: Gauge,
    deleted: Counter,
    late: Counter,
    untaken: Gauge,
    /// What was looked up, by target.
    known: BTreeMap<String, Look>,
}

/// What only the database knows of a target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pending: f64,
    oldest_s: f64,
    dead: f64,
}

const TARGETS: &str = "
SELECT ledger.target, (
    SELECT count(*) FROM (
        SELECT FROM outbox.dead WHERE dead.target = ledger.target LIMIT $1
    ) AS counted
) AS dead
FROM outbox.ledger";

const UNKNOWN: Look = Look { pending: f64::NAN, oldest_s: f64::NAN, dead: f64::NAN };

/// Looks at every ledger.
pub(super) async fn look(
    client: &mut Client,
    schema: &Schema,
) -> Result<BTreeMap<String, Look>, Error> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    transaction.batch_execute(SCAN_SETTINGS).await?;
    let mut looks = BTreeMap::new();
    for row in transaction.query(&schema.sql(TARGETS), &[&COUNTED_ROWS]).await? {
        let target: String = row.get("target");
        let backlog = backlog::read(&transaction, schema, &target, COUNTED_ROWS).await?;
        let (pending, oldest_s) = (backlog.pending as f64, backlog.oldest_s.unwrap_or(0.0));
        looks.insert(target, Look { pending, oldest_s, dead: row.get::<_, i64>("dead") as f64 });
    }
    transaction.commit().await?;
    Ok(looks)
}

/// What there is to be seen of a process that was never elected: an alert about something that is not there is silent.
pub(super) fn begin() {
    gauge!(metric::KEEPER.name).set(0.0);
    gauge!(metric::KEEPER_SUCCESS.name).set(0.0);
    gauge!(metric::UNTAKEN.name).set(f64::NAN);
    counter!(metric::DELETED.name).increment(0);
    counter!(metric::LATE.name).increment(0);
}

impl Meter {
    /// Elected.
    pub(super) fn new() -> Self {
        let elected = gauge!(metric::KEEPER.name);
        elected.set(1.0);
        Self {
            elected,
            success: gauge!(metric::KEEPER_SUCCESS.name),
            floor: gauge!(metric::FLOOR.name),
            deleted: counter!(metric::DELETED.name),
            late: counter!(metric::LATE.name),
            untaken: gauge!(metric::UNTAKEN.name),
            known: BTreeMap::new(),
        }
    }

    /// A round has ended: well, unless a person has to act before anything is deleted again.
    pub(super) fn round(&self, floor: i64, deleted: u64, held: &Held) {
        self.floor.set(floor as f64);
        self.deleted.increment(deleted);
        if matches!(held, Held::IdentityWentBack { .. }) {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.success.set(now.as_secs_f64());
    }

    /// So many rows stood where none should be.
    pub(super) fn late(&self, rows: u64) {
        self.late.increment(rows);
    }

    /// So many topics are taken by no target; `None`: that cannot be said.
    pub(super) fn untaken(&self, topics: Option<usize>) {
        self.untaken.set(topics.map_or(f64::NAN, |topics| topics as f64));
    }

    /// What was looked up; of a target that has gone nothing is known any more.
    pub(super) fn looked(&mut self, looks: BTreeMap<String, Look>) {
        self.known
            .keys()
            .filter(|target| !looks.contains_key(*target))
            .for_each(|target| show(target, UNKNOWN));
        for (target, look) in &looks {
            show(target, *look);
        }
        self.known = looks;
    }
}

/// Another process may be the keeper by now, and show its own.
impl Drop for Meter {
    fn drop(&mut self) {
        self.elected.set(0.0);
        self.untaken.set(f64::NAN);
        self.looked(BTreeMap::new());
    }
}

fn show(target: &str, look: Look) {
    let gauge = |name| gauge!(name, "target" => target.to_owned());
    gauge(metric::PENDING.name).set(look.pending);
    gauge(metric::OLDEST_PENDING.name).set(look.oldest_s);
    gauge(metric::DEAD.name).set(look.dead);
}
