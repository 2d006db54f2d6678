//! The doorbell: an idle reader sleeps, every commit wakes it, and without the bell it polls.

use std::time::{Duration, Instant};

use outbox_relay::config::SourceConfig;
use outbox_relay::source::Start;

use super::consumer::{Consumer, NEVER, Ringer, limits};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::rng::{Rng, seed};
use crate::support::services::Services;
use crate::support::session::Session;

const INSERT: &str = "INSERT INTO outbox.message (topic) VALUES ('x')";

/// Asleep, it never reads of itself: a commit that it misses fails the test.
fn sound_sleeper() -> SourceConfig {
    SourceConfig { idle_read_interval: NEVER, ..limits() }
}

async fn start(url: &str, ringer: &Ringer) -> Consumer {
    let start = Start { floor: 1, ..Start::default() };
    Consumer::start_as(url, sound_sleeper(), ringer.handle.clone(), start).await
}

/// Waits until some relay of this database sleeps: the bell's lock is held exclusively.
async fn asleep(session: &Session) {
    let armed = "SELECT count(*) FROM pg_locks l, outbox.lock_key('@bell') k
                 WHERE l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' AND l.granted
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND (l.classid, l.objid) = (k.k1::bigint::bit(32)::bigint::oid, k.k2::bigint::bit(32)::bigint::oid)";
    until("the bell to be armed", async || (session.count(armed).await == 1).then_some(())).await;
}

#[tokio::test]
async fn i1_no_commit_is_slept_through() {
    const READERS: usize = 8;
    const COMMITS: u64 = 500;
    const PAUSE_US_MAX: u64 = 6_000;
    // GIVEN readers that wake up by the bell alone: one of them arms it while another one reads
    let database = Database::create().await;
    let url = database.url_as(&database.create_relay().await);
    let ringer = Ringer::hang(&url);
    let mut consumers = Vec::new();
    for _ in 0..READERS {
        consumers.push(start(&url, &ringer).await);
    }
    let writer = database.connect().await;
    // WHEN a commit comes at any moment of falling asleep, and none after it that would ring as well
    let seed = seed();
    let mut rng = Rng::new(seed);
    for id in 1..=COMMITS as i64 {
        let pause = Duration::from_micros(rng.below(PAUSE_US_MAX));
        let begun = Instant::now();
        // A timer is too coarse for it.
        while begun.elapsed() < pause {
            tokio::task::yield_now().await;
        }
        writer.run(INSERT).await;
        // THEN each of them reads it
        for consumer in &mut consumers {
            assert_eq!(consumer.ids(1).await, [id], "SEED={seed}");
        }
    }
}

#[tokio::test]
async fn a_commit_wakes_a_sleeping_reader() {
    let database = Database::create().await;
    let url = database.url_as(&database.create_relay().await);
    let ringer = Ringer::hang(&url);
    let mut consumer = start(&url, &ringer).await;
    let writer = database.connect().await;
    for id in 1..=5 {
        asleep(&writer).await;
        writer.run(INSERT).await;
        assert_eq!(consumer.ids(1).await, [id]);
    }
}

#[tokio::test]
async fn a_writer_in_its_transaction_keeps_the_reader_polling() {
    // GIVEN a writer whose transaction has inserted: it will not ring
    let database = Database::create().await;
    let url = database.url_as(&database.create_relay().await);
    let (late, writer) = (database.connect().await, database.connect().await);
    late.run(&format!("BEGIN; {INSERT}")).await;
    let ringer = Ringer::hang(&url);
    let mut consumer = start(&url, &ringer).await;
    writer.run(INSERT).await;
    assert_eq!(consumer.ids(1).await, [2]);
    // WHEN it commits
    late.run("COMMIT").await;
    // THEN its row is read all the same, and then the reader sleeps
    assert_eq!(consumer.ids(1).await, [1]);
    asleep(&writer).await;
}

#[tokio::test]
async fn a_rollback_behind_an_armed_bell_is_given_up() {
    // GIVEN a transaction that drew an id without having fired the trigger yet, so the bell is armed
    let database = Database::create().await;
    let url = database.url_as(&database.create_relay().await);
    let (late, writer) = (database.connect().await, database.connect().await);
    let ringer = Ringer::hang(&url);
    let mut consumer = start(&url, &ringer).await;
    late.run("BEGIN; LOCK TABLE outbox.message IN ROW EXCLUSIVE MODE").await;
    late.run("SELECT nextval(pg_get_serial_sequence('outbox.message', 'id'))").await;
    writer.run(INSERT).await;
    assert_eq!(consumer.ids(1).await, [2]);
    asleep(&writer).await;
    // WHEN it is rolled back, nobody rings
    late.run("ROLLBACK").await;
    // THEN the hole is given up all the same
    consumer.read_until(|consumer| consumer.dead.contains(1)).await;
}

#[tokio::test]
async fn the_loss_of_the_bells_session_stops_nobody() {
    // GIVEN a reader that sleeps
    let database = Database::create().await;
    let url = database.url_as(&database.create_relay().await);
    let ringer = Ringer::hang(&url);
    let mut consumer = start(&url, &ringer).await;
    let writer = database.connect().await;
    for id in 1..=3 {
        asleep(&writer).await;
        // WHEN the bell's session is ended
        writer
            .run(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'outbox-relay bell'",
            )
            .await;
        writer.run(INSERT).await;
        // THEN rows come, and the bell comes back
        assert_eq!(consumer.ids(1).await, [id]);
    }
    asleep(&writer).await;
}

#[tokio::test]
async fn without_the_trigger_the_reader_polls() {
    // GIVEN a server with prepared transactions, where the bell is not installed
    let database = Database::create_on(&Services::postgres_two_phase()).await;
    let url = database.url_as(&database.create_relay().await);
    let ringer = Ringer::hang(&url);
    let mut consumer = start(&url, &ringer).await;
    let writer = database.connect().await;
    for id in 1..=5 {
        writer.run(INSERT).await;
        assert_eq!(consumer.ids(1).await, [id]);
    }
}

#[tokio::test]
async fn two_processes_share_one_bell() {
    // GIVEN two processes, of which one holds the bell
    let database = Database::create().await;
    let url = database.url_as(&database.create_relay().await);
    let (first, second) = (Ringer::hang(&url), Ringer::hang(&url));
    let mut consumers = [start(&url, &first).await, start(&url, &second).await];
    let writer = database.connect().await;
    for id in 1..=20 {
        asleep(&writer).await;
        writer.run(INSERT).await;
        // THEN both read every row
        for consumer in &mut consumers {
            assert_eq!(consumer.ids(1).await, [id]);
        }
    }
}
