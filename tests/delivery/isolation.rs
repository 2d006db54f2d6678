//! A mistake of one destination or one target is nobody else's.

use crate::support::consumer::{
    AmqpDestination, Consumer, Destination, KafkaDestination, QueueKind,
};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::progress::{assert_nobody_blamed, sent, wait_settled};
use crate::support::relay::RelayProcess;
use crate::support::services::Services;
use crate::support::stage::{Stage, unique};
use crate::support::writer::{Batch, committed};

/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_unroutable_messages_are_not_sent_and_no_good_one_is_blamed() {
    // GIVEN a queue that is bound for some routing keys only
    let stage = Stage::new(Database::create().await).await;
    let url = Services::amqp();
    let name = unique();
    let amqp = AmqpDestination { url, exchange: name.clone(), queue: name };
    amqp.declare_exchange().await.expect("an exchange can be declared");
    amqp.declare_queue(QueueKind::Classic, "order.#").await.expect("a queue can be declared");
    let stage = stage.with("amqp", Destination::Amqp(amqp.clone()));
    let stage = stage
        .set("target.amqp", "retry_backoff_min", "\"100ms\"")
        .set("target.amqp", "retry_backoff_max", "\"500ms\"")
        .set("target.amqp", "attempts_max", 1000);
    let session = stage.session().await;
    let good = Batch::orders(100);
    let lost = Batch { topic: "stock.moved", key_prefix: "stock", keys: 3, ..Batch::orders(3) };
    for _ in 0..15 {
        good.write(&session).await;
        lost.write(&session).await;
        good.write(&session).await;
    }

    // WHEN everything is sent at once
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(15 * 2 * 100).await;

    // THEN only what the broker routed is marked as sent, and only the others are set aside
    let waiting = "SELECT count(*) FROM outbox.retry";
    let parked = "SELECT count(*) FROM outbox.retry r JOIN outbox.message m USING (id)
                  WHERE m.topic = 'stock.moved'";
    until("the unroutable ones to be set aside", async || {
        (session.count(parked).await == 15 * 3).then_some(())
    })
    .await;
    assert_eq!(session.count(waiting).await, 15 * 3);
    let unroutable = "SELECT count(*) FROM outbox.message_state s JOIN outbox.message m USING (id)
                      WHERE m.topic = 'stock.moved' AND s.state = 'sent'";
    assert_eq!(session.count(unroutable).await, 0);

    // WHEN the queue is bound for them too
    amqp.declare_queue(QueueKind::Classic, "#").await.expect("a binding can be added");

    // THEN everything has arrived
    let journal = committed(&session).await;
    stage.wait_received(journal.len()).await;
    wait_settled(&session, 1).await;
    assert_nobody_blamed(&session).await;
    assert!(relay.terminate().await.success());
    for (name, report) in stage.assert_exact(&journal).await {
        assert_eq!(report.duplicates, 0, "{name}: a good message was sent again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_dead_target_holds_nobody_back() {
    // GIVEN a target whose broker is not there, and one whose broker is
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Quorum).await;
    let dead = KafkaDestination { brokers: NOWHERE.into(), topic: unique(), partitions: 1 };
    let stage = Stage { config: stage.config.clone().kafka("dead", &dead), ..stage };
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;

    // WHEN messages are written
    Batch::orders(2000).write(&session).await;

    // THEN the one has them all, and the other none, without blame for any message
    stage.wait_received(2000).await;
    until("the live target to be settled", async || {
        (sent(&session, "amqp").await.len() == 2000).then_some(())
    })
    .await;
    assert!(sent(&session, "dead").await.is_empty());
    assert_nobody_blamed(&session).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_comes_later_has_everything_that_is_still_there() {
    // GIVEN messages that one target has settled
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let session = stage.session().await;
    Batch::orders(300).write(&session).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(300).await;
    assert!(relay.terminate().await.success());

    // WHEN a second target is configured
    let kafka = KafkaDestination::create(&Services::kafka(), &unique(), 3).await;
    let mut stage = stage;
    stage.config = stage.config.kafka("kafka", &kafka);
    stage.consumers.push(("kafka", Consumer::start(Destination::Kafka(kafka))));
    let relay = RelayProcess::start(&stage.config).await;
    Batch::orders(300).write(&session).await;

    // THEN it has the old and the new ones, and the first has each once
    stage.wait_received(600).await;
    wait_settled(&session, 2).await;
    assert!(relay.terminate().await.success());
    for (name, report) in stage.assert_exact(&committed(&session).await).await {
        assert_eq!(report.duplicates, 0, "{name}");
    }
}
