//! The application: concurrent transactions that change a business table and write to the outbox,
//! in every way that has ever broken a relay.
//!
//! Each transaction first takes the row lock of its key (`aggregate`), draws the key's next places
//! from it, and writes the messages that carry them. In the same transaction it writes what it wrote
//! to `business`: that table is the truth about what was committed, also when the reply to a commit
//! was lost or the server crashed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::checker::Committed;
use super::consumer::now_us;
use super::content::Digest;
use super::database::Database;
use super::patience::until;
use super::rng::Rng;
use super::session::Session;

mod batch;
mod late;
mod mix;
mod order;
mod transaction;

pub(crate) use batch::{Batch, committed};
pub(crate) use late::EarlyIds;
pub(crate) use mix::Mix;
use transaction::Connection;

/// Of the writer's keys.
const KEY_PREFIX: &str = "key";
/// Pause before a lost server is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// What is to be written.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) connections: usize,
    pub(crate) keys: usize,
    /// The writer stops by itself once so many messages are committed.
    pub(crate) rows_max: usize,
    /// Pause between two transactions of one connection.
    pub(crate) pause: Duration,
    pub(crate) mix: Mix,
}

impl Plan {
    /// 32 connections that do everything they may.
    pub(crate) fn hostile(seed: u64, rows_max: usize) -> Self {
        let mix = Mix::hostile();
        Self { seed, connections: 32, keys: 50, rows_max, pause: Duration::ZERO, mix }
    }

    /// Orders: short transactions, one in ten rolled back.
    pub(crate) fn orders(seed: u64, rows_max: usize) -> Self {
        let mix = Mix::orders();
        Self { seed, connections: 8, keys: 200, rows_max, pause: Duration::ZERO, mix }
    }
}

/// A running writer, with a writer's rights and no more.
pub(crate) struct Writer {
    /// As the database's owner, for the journal.
    url: String,
    shared: Arc<Shared>,
    connections: JoinSet<()>,
}

/// What the connections have in common.
#[derive(Default)]
struct Shared {
    stop: CancellationToken,
    /// Held for writing by whoever wants no transaction to be under way.
    pause: RwLock<()>,
    committed: AtomicUsize,
    /// When the reply to the commit came, by message.
    commit_times: Mutex<HashMap<Uuid, i64>>,
}

impl Shared {
    fn times(&self) -> MutexGuard<'_, HashMap<Uuid, i64>> {
        self.commit_times.lock().expect("nobody panics while holding the times")
    }

    fn note(&self, committed: Vec<Uuid>) {
        let (now, count) = (now_us(), committed.len());
        self.times().extend(committed.into_iter().map(|id| (id, now)));
        self.committed.fetch_add(count, Ordering::Relaxed);
    }
}

impl Writer {
    /// Makes the application's tables and starts writing.
    pub(crate) async fn start(database: &Database, plan: &Plan) -> Self {
        prepare(&database.connect().await, KEY_PREFIX, plan.keys).await;
        let url = database.url_as(&database.create_writer().await);
        let shared = Arc::new(Shared::default());
        let mut rng = Rng::new(plan.seed);
        let mut connections = JoinSet::new();
        for number in 0..plan.connections {
            let (url, plan) = (url.clone(), plan.clone());
            connections.spawn(write(url, plan, rng.fork(), number, shared.clone()));
        }
        Self { url: database.url.clone(), shared, connections }
    }

    /// Messages whose commit was acknowledged so far.
    pub(crate) fn committed(&self) -> usize {
        self.shared.committed.load(Ordering::Relaxed)
    }

    /// Whether every connection has ended.
    pub(crate) fn is_finished(&mut self) -> bool {
        while let Some(ended) = self.connections.try_join_next() {
            ended.expect("a writer's connection does not panic");
        }
        self.connections.is_empty()
    }

    /// Lets every connection end its transaction and begin no other until the guard is dropped.
    pub(crate) async fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.shared.pause.write().await
    }

    /// Waits until `count` messages are committed.
    pub(crate) async fn wait_committed(&self, count: usize) {
        until("the writer's commits", async || (self.committed() >= count).then_some(())).await;
    }

    /// Lets every connection end its transaction, and says what was committed.
    pub(crate) async fn stop(self) -> Vec<Committed> {
        self.shared.stop.cancel();
        self.finish().await
    }

    /// Waits until `rows_max` messages are committed, and says which.
    pub(crate) async fn finish(mut self) -> Vec<Committed> {
        while let Some(ended) = self.connections.join_next().await {
            ended.expect("a writer's connection does not panic");
        }
        let session = Session::connect(&self.url).await;
        transaction::commit_prepared(&session).await;
        let times = std::mem::take(&mut *self.shared.times());
        journal(&session, &times).await
    }
}

/// One connection: transaction after transaction; a lost server is tried again until it is back.
async fn write(url: String, plan: Plan, mut rng: Rng, number: usize, shared: Arc<Shared>) {
    let enough =
        || shared.stop.is_cancelled() || shared.committed.load(Ordering::Relaxed) >= plan.rows_max;
    while !enough() {
        let Ok(mut connection) = Connection::open(&url, number, plan.keys).await else {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            continue;
        };
        while !enough() {
            // An error leaves the fate of the transaction open; `business` will tell.
            let turn = shared.pause.read().await;
            let Ok(committed) = connection.transaction(&mut rng, &plan.mix).await else { break };
            shared.note(committed);
            drop(turn);
            if !plan.pause.is_zero() {
                tokio::time::sleep(plan.pause).await;
            }
        }
    }
}

/// The application's own tables, and `keys` rows to lock.
async fn prepare(session: &Session, prefix: &str, keys: usize) {
    session.run(TABLES).await;
    let keys: Vec<String> = (0..keys as u64).map(|number| key(prefix, number)).collect();
    let insert = "INSERT INTO aggregate SELECT unnest($1::text[]), 0 ON CONFLICT DO NOTHING";
    session.execute(insert, &[&keys]).await.expect("the application's tables are there");
}

/// The name of a key; the first is empty, which is a key like any other.
fn key(prefix: &str, number: u64) -> String {
    match (prefix, number) {
        (KEY_PREFIX, 0) => String::new(),
        _ => format!("{prefix}-{number}"),
    }
}

const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS aggregate (key text PRIMARY KEY, place bigint NOT NULL);
CREATE TABLE IF NOT EXISTS business (
    message_id uuid PRIMARY KEY, key text, place bigint, digest bytea NOT NULL);
GRANT ALL ON aggregate, business TO PUBLIC";

/// Everything that was committed, as `business` has it.
async fn journal(session: &Session, times: &HashMap<Uuid, i64>) -> Vec<Committed> {
    let rows = session
        .query("SELECT message_id, key, place, digest FROM business", &[])
        .await
        .expect("the journal can be read");
    rows.into_iter()
        .map(|row| {
            let message_id = row.get(0);
            Committed {
                message_id,
                key: row.get(1),
                counter: row.get(2),
                digest: Digest::try_from(row.get::<_, &[u8]>(3)).expect("a digest has 32 bytes"),
                committed_at_us: times.get(&message_id).copied(),
            }
        })
        .collect()
}
