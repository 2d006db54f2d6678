//! Partitions that come and go, and what expires.

use std::time::Duration;

use outbox_inbox::maintenance::{Settings, maintain, stats};
use outbox_inbox::schema::Schema;

use crate::support::database::Database;
use crate::support::id;
use crate::support::lock::{backend, wait_blocked};
use crate::support::services::Services;
use crate::support::session::Session;

fn keep(retention_days: u32) -> Settings {
    Settings { retention_days, ..Settings::default() }
}

async fn run(session: &Session, settings: &Settings) -> outbox_inbox::maintenance::Report {
    maintain(session, &Schema::default(), settings).await.unwrap().expect("nobody else is at it")
}

async fn claim(session: &Session, id: &str) -> String {
    session.query_one("SELECT outbox.inbox_claim('billing', $1)", &[&id]).await.unwrap().get(0)
}

const PARTITIONS: &str =
    "SELECT count(*) FROM pg_inherits WHERE inhparent = 'outbox.inbox'::regclass";
const TABLES: &str =
    "SELECT count(*) FROM pg_class WHERE relname ~ '^inbox_[0-9]{8}$' AND relkind = 'r'";

#[tokio::test]
async fn a_partition_goes_one_run_after_the_horizon_has_passed_it() {
    for server in [Services::postgres(), Services::postgres_18()] {
        let session = Database::create_on(&server).await.connect().await;
        // GIVEN a processed message of a week ago
        let old = id::of_day(-7);
        assert_eq!(claim(&session, &old).await, "fresh");
        // WHEN the retention becomes three days
        let first = run(&session, &keep(3)).await;
        // THEN it is refused at once, while its partition is there still
        assert_eq!(claim(&session, &old).await, "stale");
        assert!(first.dropped.is_empty());
        let second = run(&session, &keep(3)).await;
        assert_eq!(second.dropped.len(), 11);
        assert_eq!(claim(&session, &old).await, "stale");
        // Today, three days back, seven ahead, and the undated ones.
        assert_eq!(session.count(PARTITIONS).await, 12);
        assert_eq!(session.count(TABLES).await, 11);
        assert_eq!(run(&session, &keep(3)).await, Default::default());
    }
}

#[tokio::test]
async fn the_horizon_never_falls() {
    let session = Database::create().await.connect().await;
    run(&session, &keep(3)).await;
    run(&session, &keep(30)).await;
    assert_eq!(claim(&session, &id::of_day(-5)).await, "stale");
}

#[tokio::test]
async fn a_partition_leaves_while_a_handler_is_in_it_and_no_claim_waits() {
    let database = Database::create().await;
    let (handler, keeper) = (database.connect().await, database.connect().await);
    let (observer, consumer) = (database.connect().await, database.connect().await);
    run(&keeper, &keep(3)).await;
    // GIVEN a long handler transaction that has been in the inbox
    handler.run("BEGIN").await;
    assert_eq!(claim(&handler, &id::new()).await, "fresh");
    // WHEN old partitions are to go
    let pid = backend(&keeper).await;
    let settings = keep(3);
    let meanwhile = async {
        wait_blocked(&observer, pid).await;
        // THEN others claim meanwhile, and the partition goes once the handler has ended
        consumer.run("SET lock_timeout = '2s'").await;
        for days in [-2, -1, 0, 1] {
            assert_eq!(claim(&consumer, &id::of_day(days)).await, "fresh");
        }
        handler.run("COMMIT").await;
    };
    let (report, ()) = tokio::join!(run(&keeper, &settings), meanwhile);
    assert_eq!(report.dropped.len(), 11);
}

#[tokio::test]
async fn a_run_that_gave_up_in_the_middle_is_ended_by_the_next() {
    let database = Database::create().await;
    let (handler, keeper) = (database.connect().await, database.connect().await);
    run(&keeper, &keep(3)).await;
    // GIVEN a run that a handler has made give up half-way
    handler.run("BEGIN").await;
    claim(&handler, &id::new()).await;
    let impatient = Settings { detach_timeout: Duration::from_millis(300), ..keep(3) };
    let report = run(&keeper, &impatient).await;
    assert!(report.waiting.is_some() && report.dropped.is_empty(), "{report:?}");
    let pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    assert_eq!(keeper.count(pending).await, 1);
    // The half-way partition holds nobody up.
    assert_eq!(claim(&keeper, &id::new()).await, "fresh");
    // WHEN it runs again after the handler has ended
    handler.run("COMMIT").await;
    // THEN it finishes that one and goes on
    assert_eq!(run(&keeper, &keep(3)).await.dropped.len(), 11);
}

#[tokio::test]
async fn two_runs_are_not_at_it_at_once() {
    let database = Database::create().await;
    let (one, other) = (database.connect().await, database.connect().await);
    let lock = "SELECT pg_advisory_lock(hashtextextended('outbox-inbox maintain outbox', 0))";
    one.run(lock).await;
    let report = maintain(&other, &Schema::default(), &Settings::default()).await.unwrap();
    assert_eq!(report, None);
}

#[tokio::test]
async fn rows_without_a_day_expire_by_their_own_time() {
    let session = Database::create().await.connect().await;
    // GIVEN an old and a new claim without a day, an old failure, and an old parked one
    for id in ["old", "new"] {
        claim(&session, id).await;
        session.run(&format!("SELECT outbox.inbox_fail('billing', 'f-{id}', 't', '', 5)")).await;
    }
    session
        .run(
            "SELECT outbox.inbox_fail('billing', 'parked', 't', '', 0);
             UPDATE outbox.inbox_undated SET processed_at = now() - interval '15 days' WHERE message_id = 'old';
             UPDATE outbox.inbox_failure SET last_failed_at = now() - interval '15 days' WHERE message_id <> 'f-new'",
        )
        .await;
    // WHEN the maintenance runs
    let report = run(&session, &keep(14)).await;
    // THEN what is old goes, but for what waits for a person
    assert_eq!((report.undated, report.failures), (1, 1));
    assert_eq!(claim(&session, "old").await, "fresh");
    assert_eq!(claim(&session, "new").await, "duplicate");
    assert_eq!(session.count("SELECT count(*) FROM outbox.inbox_failure").await, 2);
}

#[tokio::test]
async fn sql_alone_maintains_as_well() {
    let database = Database::create().await;
    let (session, handler) = (database.connect().await, database.connect().await);
    let maintain = async |what: &str| {
        let text = format!("SELECT {what} FROM outbox.inbox_maintain(3, 9)");
        session.query_one(&text, &[]).await.unwrap().get::<_, i32>(0)
    };
    // GIVEN a horizon that has risen
    assert_eq!(maintain("made").await, 2);
    // WHEN a handler is in the inbox THEN nothing waits for it longer than a moment
    handler.run("BEGIN").await;
    claim(&handler, &id::new()).await;
    assert_eq!(maintain("blocked").await, 1);
    handler.run("COMMIT").await;
    assert_eq!(maintain("dropped").await, 11);
}

#[tokio::test]
async fn the_figures_say_when_the_inbox_will_stop() {
    let session = Database::create().await.connect().await;
    let look = async || stats(&session, &Schema::default()).await.unwrap();
    assert_eq!((look().await.partitions_ahead, look().await.maintained_at), (7, None));
    run(&session, &Settings { ahead_days: 9, ..keep(14) }).await;
    session.run("SELECT outbox.inbox_fail('billing', 'a', 't', '', 0)").await;
    let stats = look().await;
    assert_eq!((stats.partitions_ahead, stats.parked, stats.retrying), (9, 1, 0));
    assert!(stats.maintained_at.is_some() && stats.bytes > 0);
    // One attempt with a key is at work, of another nobody has heard again.
    let key = "SELECT outbox.idempotency_begin('pay', $1, '\\x01', $2::text::interval)";
    for (name, lease) in [("here", "1 hour"), ("lost", "0")] {
        session.execute(key, &[&name, &lease]).await.unwrap();
    }
    let stats = look().await;
    assert_eq!((stats.keys_in_progress, stats.keys_expired), (1, 1));
}
