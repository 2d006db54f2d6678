//! One cell of the matrix: a database, a queue and a topic of its own, a writer, two relays, and
//! what happens to them.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use uuid::Uuid;

use super::arena::false_clock_environment;
use super::crew::{Crew, leader};
use super::fault::Scene;
use super::outcome::{Outcome, Silence, judge};
use super::small_disk::TABLESPACE;
use super::{Arena, Fault};
use crate::support::consumer::{Destination, KafkaDestination, QueueKind, now_us};
use crate::support::database::Database;
use crate::support::patience::{LOOK_INTERVAL, until};
use crate::support::proxy::Network;
use crate::support::relay::{RelayConfig, command};
use crate::support::session::Session;
use crate::support::stage::{Stage, unique};
use crate::support::writer::{Mix, Plan, Writer};

/// Rows that a relay has read and not settled: the most that one loss of a connection sends again.
pub(crate) const UNSETTLED_ROWS_MAX: usize = 1000;
/// Messages before the fault, and after it.
const QUIET_MESSAGES: usize = 150;
/// A fault that nobody notices (because another one keeps them busy) ends all the same.
const HOLD_MAX: Duration = Duration::from_secs(8);
/// From the writer's end until everything must be settled.
const SETTLE_MAX: Duration = Duration::from_secs(45);

/// A cell under way.
pub(crate) struct Cell<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) stage: Stage,
    pub(crate) crew: Crew,
    pub(crate) writer: Writer,
    notes: Mutex<Notes>,
}

/// What the faults have noted for the verdict.
#[derive(Default)]
pub(crate) struct Notes {
    /// When something was broken, and what the silence after it measures.
    pub(crate) strikes: Vec<(i64, Silence)>,
    /// When the last thing was mended, if something had to be.
    pub(crate) mended_at: Option<i64>,
    /// Messages that must end in `dead`, by target.
    pub(crate) bad: HashMap<&'static str, HashSet<Uuid>>,
    /// How often the ledgers were rebuilt: everything that is there comes again.
    pub(crate) rebuilt: usize,
    /// Deliveries by target, and messages, before the ids began anew.
    pub(crate) cut: Option<Cut>,
    pub(crate) problems: Vec<String>,
}

/// The end of the first half of a cell whose ids begin anew.
pub(crate) struct Cut {
    pub(crate) deliveries: HashMap<&'static str, usize>,
    pub(crate) journal: HashSet<Uuid>,
}

impl<'a> Cell<'a> {
    /// Runs one: open, strike, mend, judge.
    pub(crate) async fn run(arena: &'a Arena, faults: &[&Fault], seed: u64) -> Outcome {
        let cell = Self::open(arena, faults[0], seed).await;
        cell.wait_delivered(QUIET_MESSAGES).await;
        let happenings = faults.iter().map(|fault| (fault.happen)(&cell));
        futures_util::future::join_all(happenings).await;
        cell.go_on(QUIET_MESSAGES).await;
        cell.close(faults).await
    }

    async fn open(arena: &'a Arena, fault: &Fault, seed: u64) -> Self {
        let database = match fault.scene {
            Scene::TwoPhase => Database::create_on(arena.two_phase().await.url()).await,
            Scene::OldTransaction => arena.old_transaction().await.take_database().await,
            Scene::FalseClock => Database::create_on(arena.false_clock().await.url()).await,
            Scene::SmallDisk => {
                arena.small_disk().await;
                let url = arena.postgres.url();
                let database = Database::create_empty_in(url, TABLESPACE).await;
                database.migrate().await;
                database
            }
            Scene::Shared | Scene::Strict | Scene::OtherFences | Scene::ThreeBrokers(_) => {
                Database::create_on(arena.postgres.url()).await
            }
        };
        let stage = Stage::new(database).await;
        let stage = stage.with_amqp(arena.rabbitmq.url(), QueueKind::Classic).await;
        let mut stage = stage.with("kafka", Destination::Kafka(topic(arena, fault.scene).await));
        if !matches!(fault.scene, Scene::ThreeBrokers(_)) {
            let front = format!("{:?}", arena.kafka.fact("FRONT"));
            stage = stage.set("target.kafka", "brokers", front);
        }
        arena.kafka_link.set(Network::Up);
        stage.config = settings(stage.config);
        match fault.scene {
            Scene::Strict => {
                for target in ["target.amqp", "target.kafka"] {
                    stage = stage.set(target, "order", "\"strict\"");
                }
            }
            Scene::OtherFences => {
                stage = stage.set("target.amqp", "fence", "\"none\"");
                stage = stage.set("target.kafka", "fence", "\"transaction\"");
            }
            _ => {}
        }
        let environment = match fault.scene {
            Scene::FalseClock => false_clock_environment(),
            _ => Vec::new(),
        };
        let crew = Crew::new(&stage, environment).await;
        let mix = match fault.scene {
            Scene::TwoPhase => Mix::hostile_two_phase(),
            _ => Mix::hostile(),
        };
        let plan = Plan { connections: 8, mix, ..Plan::hostile(seed, usize::MAX) };
        let plan = Plan { pause: Duration::from_millis(15), ..plan };
        let writer = Writer::start(&stage.database, &plan).await;
        let cell = Self { arena, stage, crew, writer, notes: Mutex::default() };
        cell.hire().await;
        cell.crew.wait_ready().await;
        cell.hire().await;
        cell
    }

    /// Starts another relay.
    pub(crate) async fn hire(&self) {
        self.crew.hire(&self.stage).await;
    }

    pub(crate) fn note(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().expect("nobody panics while holding the notes")
    }

    /// Something breaks now.
    pub(crate) fn struck(&self) {
        self.struck_as(Silence::Unnamed);
    }

    /// The same, where the silence after it is a figure of its own.
    pub(crate) fn struck_as(&self, silence: Silence) {
        self.note().strikes.push((now_us(), silence));
    }

    /// What was broken is as it should be from now on.
    pub(crate) fn mended(&self) {
        self.note().mended_at = Some(now_us());
    }

    /// A session, as soon as the database takes one.
    pub(crate) async fn session(&self) -> Session {
        let url = &self.stage.database.url;
        until("the database", async || Session::try_connect(url).await.ok()).await
    }

    /// The role of the relay that leads to RabbitMQ.
    pub(crate) async fn leader(&self) -> String {
        self.leader_to("amqp").await
    }

    /// The role of the relay that leads to a target: two relays share two of them.
    pub(crate) async fn leader_to(&self, target: &str) -> String {
        leader(&self.stage.database.url, target, "").await
    }

    /// Waits until another relay than that of this role leads both.
    pub(crate) async fn wait_other_leader(&self, but: &str) {
        for target in ["amqp", "kafka"] {
            leader(&self.stage.database.url, target, but).await;
        }
    }

    /// Waits until `count` more messages are committed.
    pub(crate) async fn go_on(&self, count: usize) {
        self.writer.wait_committed(self.writer.committed() + count).await;
    }

    /// Waits until `count` more messages have come out at both brokers.
    pub(crate) async fn wait_delivered(&self, count: usize) {
        for (_, consumer) in &self.stage.consumers {
            consumer.wait_received(consumer.received() + count).await;
        }
    }

    /// Waits until something has happened, or for so long that it will not any more.
    pub(crate) async fn hold(&self, mut happened: impl AsyncFnMut() -> bool) {
        let wait = async {
            while !happened().await {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        // The second of two faults may keep the relays from noticing the first.
        let _ = tokio::time::timeout(HOLD_MAX, wait).await;
    }

    /// Waits until a relay has logged this once more than at the call.
    pub(crate) async fn hold_until_logged(&self, text: &str) {
        let count = async || self.crew.log().await.matches(text).count();
        let before = count().await;
        self.hold(async || count().await > before).await;
    }

    /// Notes what must not be: refusals charged to messages that nobody refused.
    pub(crate) async fn nobody_is_blamed(&self) {
        let attempts = "SELECT coalesce(sum(attempts), 0)::bigint FROM outbox.retry";
        let attempts = self.session().await.query_one(attempts, &[]).await;
        // Lost to another fault: then another cell will tell.
        let Ok(attempts) = attempts.map(|row| row.get::<_, i64>(0)) else { return };
        if attempts > 0 {
            self.note().problems.push(format!("{attempts} attempts charged to an outage"));
        }
    }

    /// Another subcommand of the program, as the owner of the database.
    pub(crate) async fn command(&self, arguments: &[&str]) {
        let owner = format!("{:?}", self.stage.database.url);
        let config = self.stage.config.clone().set("database", "url", owner);
        let output = command(&config, arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }

    /// Every ledger anew, by the command that the relay names.
    pub(crate) async fn rebuild(&self) {
        for target in ["amqp", "kafka"] {
            self.command(&["ledger", "rebuild", "--target", target, "--yes"]).await;
        }
        self.note().rebuilt += 1;
    }

    async fn close(self, faults: &[&Fault]) -> Outcome {
        let session = self.stage.session().await;
        let journal = self.writer.stop().await;
        let mut left = Vec::new();
        let settled = async {
            loop {
                left = unsettled(&session).await;
                if left.is_empty() {
                    return;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let settled = tokio::time::timeout(SETTLE_MAX, settled).await.is_ok();
        let mut notes = self.notes.into_inner().expect("nobody panics while holding the notes");
        if !settled {
            notes.problems.push(format!("not settled after {SETTLE_MAX:?}: {}", left.join(", ")));
        }
        notes.problems.extend(self.crew.dismiss().await);
        let (connections, log) = (self.crew.connections().await, self.crew.log().await);
        judge(&self.stage, &session, faults, &journal, &notes, &connections, log).await
    }
}

async fn topic(arena: &Arena, scene: Scene) -> KafkaDestination {
    match scene {
        Scene::ThreeBrokers(in_sync) => {
            let brokers = arena.three_brokers().await.url();
            let settings = [("min.insync.replicas", in_sync)];
            KafkaDestination::create_with(brokers, &unique(), 3, 3, &settings).await
        }
        _ => KafkaDestination::create(arena.kafka.url(), &unique(), 3).await,
    }
}

/// Limits low and patience short, so that a cell is; the lease is as by default.
fn settings(config: RelayConfig) -> RelayConfig {
    let mut config = config
        .set("source", "prefetch_rows_max", UNSETTLED_ROWS_MAX)
        .set("source", "batch_rows_max", UNSETTLED_ROWS_MAX / 2)
        .set("database", "connect_timeout", "\"2s\"")
        .set("database", "statement_timeout", "\"5s\"");
    for target in ["target.amqp", "target.kafka"] {
        config = config
            .set(target, "window_messages_max", 200)
            .set(target, "connect_timeout", "\"2s\"")
            .set(target, "confirm_timeout", "\"3s\"")
            .set(target, "straggler_after", "\"1s\"")
            .set(target, "attempts_max", 1000)
            .set(target, "retry_backoff_min", "\"100ms\"")
            .set(target, "retry_backoff_max", "\"500ms\"");
    }
    config
}

/// What is not sent and not dead, by state and target.
async fn unsettled(session: &Session) -> Vec<String> {
    // First: with many open holes the view below is slow.
    let open = session.count("SELECT count(*) FROM outbox.hole WHERE dead_at IS NULL").await;
    if open > 0 {
        return vec![format!("{open} rows of open holes")];
    }
    let sql = "SELECT concat_ws(' ', count(*), state, 'for', target, 'from id', min(id))
               FROM outbox.message_state WHERE state NOT IN ('sent', 'dead', 'unrouted')
               GROUP BY target, state";
    let rows = session.query(sql, &[]).await.expect("message_state can be read");
    rows.iter().map(|row| row.get(0)).collect()
}
