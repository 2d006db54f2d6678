//! Times of records that a topic does not take: an outage or a clock made them, no message did.

use crate::support::checker::check;
use crate::support::consumer::{Destination, KafkaDestination};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::progress::{assert_nobody_blamed, wait_settled};
use crate::support::relay::{RelayProcess, command};
use crate::support::services::Services;
use crate::support::stage::{Stage, unique};
use crate::support::writer::{Batch, committed};

const OLD: usize = 200;
const GOOD: usize = 300;

/// A topic that takes no record older than an hour (and, by Kafka's default, none of in two hours).
async fn stage(settings: &[(&str, &str)]) -> Stage {
    let brokers = Services::kafka();
    let destination = KafkaDestination::create_with(&brokers, &unique(), 1, 1, settings).await;
    Stage::new(Database::create().await).await.with("kafka", Destination::Kafka(destination))
}

const LIMIT: [(&str, &str); 1] = [("message.timestamp.before.max.ms", "3600000")];

/// What the writer wrote bears another time: an outage, or the database's clock.
const SHIFT: &str = "ALTER TABLE outbox.message DISABLE TRIGGER refuse_update;
    UPDATE outbox.message SET created_at = created_at + CASE WHEN id % 2 = 0
        THEN interval '2 h' ELSE interval '-2 h' END;
    ALTER TABLE outbox.message ENABLE TRIGGER refuse_update";

/// GIVEN rows of two hours ago and of in two hours WHEN they are sent with the default THEN all arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_neither_an_outage_nor_a_clock_keeps_a_row() {
    let stage = stage(&LIMIT).await;
    let session = stage.session().await;
    Batch::orders(OLD).write(&session).await;
    session.run(SHIFT).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(OLD).await;
    wait_settled(&session, 1).await;
    assert_nobody_blamed(&session).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

/// GIVEN `timestamp = "created"` and rows of a time that the topic does not take WHEN others follow THEN
/// the others arrive, the first wait with the remedy and nothing is dead; and with `timestamp = "sent"`
/// they arrive too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_refused_time_waits_and_delays_nobody() {
    let stage = stage(&LIMIT).await.set("target.kafka", "timestamp", "\"created\"");
    let session = stage.session().await;
    Batch { key_prefix: "old", keys: 20, ..Batch::orders(OLD) }.write(&session).await;
    session.run(SHIFT).await;
    Batch::orders(GOOD).write(&session).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(GOOD).await;
    let destination = format!("topic {:?} (record timestamps)", stage.kafka().topic);
    until("the old ones to wait", async || {
        let waiting = "SELECT count(*) FROM outbox.retry WHERE class IN ('parked', 'held')";
        (session.count(waiting).await == OLD as i64).then_some(())
    })
    .await;
    let other = format!(
        "SELECT count(*) FROM outbox.retry WHERE class = 'parked' AND destination <> '{destination}'"
    );
    assert_eq!(session.count(&other).await, 0);
    assert_nobody_blamed(&session).await;
    let output = command(&stage.config, &["hold", "list"]).await;
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(list.contains(&destination) && list.contains("set timestamp = \"sent\""), "{list}");
    // While they wait, others go on.
    Batch::orders(GOOD).write(&session).await;
    stage.wait_received(2 * GOOD).await;
    assert!(relay.terminate().await.success());

    let stage = stage.set("target.kafka", "timestamp", "\"sent\"");
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(2 * GOOD + OLD).await;
    wait_settled(&session, 1).await;
    assert!(relay.terminate().await.success());
    let journal = committed(&session).await;
    let (_, consumer) = &stage.consumers[0];
    consumer.drain().await;
    let report = check(&journal, &consumer.deliveries());
    assert!(report.lost.is_empty() && report.phantom.is_empty(), "{report:?}");
}

/// GIVEN a compacted topic, which takes no record without a key WHEN such rows come among others THEN
/// they wait with the remedy, the others arrive, and nothing is dead; without compaction all arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_record_that_a_compacted_topic_refuses_waits() {
    let stage = stage(&[("cleanup.policy", "compact")]).await;
    let stage = stage.set("target.kafka", "retry_backoff_min", "\"50ms\"").set(
        "target.kafka",
        "outage_backoff_max",
        "\"500ms\"",
    );
    let session = stage.session().await;
    let keyless = "INSERT INTO outbox.message (topic, payload)
                   SELECT 'order.keyless', 'x' FROM generate_series(1, 5)";
    for _ in 0..2 {
        session.run(keyless).await;
        Batch::orders(GOOD).write(&session).await;
    }
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(2 * GOOD).await;
    let destination = format!("topic {:?} (invalid records)", stage.kafka().topic);
    until("the keyless ones to wait", async || {
        let waiting =
            format!("SELECT count(*) FROM outbox.retry WHERE destination = '{destination}'");
        (session.count(&waiting).await == 10).then_some(())
    })
    .await;
    assert_nobody_blamed(&session).await;
    let output = command(&stage.config, &["hold", "list"]).await;
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(list.contains("cleanup.policy"), "{list}");
    stage.kafka().alter("cleanup.policy", "delete").await;
    stage.wait_received(2 * GOOD + 10).await;
    wait_settled(&session, 1).await;
    assert!(relay.terminate().await.success());
}
