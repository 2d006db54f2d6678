//! SIGTERM: what is in hand is finished, what is confirmed is settled; a second signal hastens it.

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::until;
use crate::support::proxy::{Network, Proxy};
use crate::support::relay::RelayProcess;
use crate::support::services::Services;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_end_leaves_nothing_to_be_sent_again() {
    // GIVEN a relay in the middle of a backlog
    let stage = Stage::both(Database::create().await).await;
    let stage = stage.set("target.amqp", "window_messages_max", 200).set(
        "target.kafka",
        "window_messages_max",
        200,
    );
    let session = stage.session().await;
    for _ in 0..20 {
        Batch::orders(500).write(&session).await;
    }
    let mut relays = 0;
    loop {
        let relay = RelayProcess::start(&stage.config).await;
        relays += 1;
        let received = stage.consumers.iter().map(|(_, consumer)| consumer.received()).min();
        let received = received.unwrap_or(0);

        // WHEN it is asked to end, again and again on the way
        stage.wait_received((received + 2500).min(10_000)).await;
        assert!(relay.terminate().await.success());
        if received >= 10_000 {
            break;
        }
    }

    // THEN nothing was sent twice
    assert!(relays > 2);
    for (name, report) in stage.assert_exact(&committed(&session).await).await {
        assert_eq!(report.duplicates, 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_relay_takes_leave_of_rabbitmq() {
    // GIVEN an idle relay
    let broker = Instance::start(Kind::RabbitMq).await;
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(broker.url(), QueueKind::Classic).await;
    let relay = RelayProcess::start(&stage.config).await;
    Batch::orders(100).write(&stage.session().await).await;
    stage.wait_settled().await;

    // WHEN it ends
    assert!(relay.terminate().await.success());

    // THEN the broker sees a connection that was closed, and warns of none that was lost
    let end = until("the broker to log the end", async || {
        let log = broker.rabbitmq_log();
        let closing = |line: &&str| {
            line.contains("closing AMQP connection") && line.contains("- outbox-relay")
        };
        log.lines().find(closing).map(str::to_owned)
    })
    .await;
    assert!(end.contains("[info]"), "{end}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_hastens_the_end() {
    // GIVEN a relay whose broker confirms nothing any more, and a grace period of an hour
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let (proxy, through) = Proxy::in_front_of(&Services::amqp()).await;
    let stage = stage
        .set("target.amqp", "url", format!("{through:?}"))
        .set("target.amqp", "confirm_timeout", "\"1h\"")
        .set("shutdown", "grace", "\"1h\"");
    let session = stage.session().await;
    let mut relay = RelayProcess::start(&stage.config).await;
    Batch::orders(100).write(&session).await;
    stage.wait_received(100).await;
    proxy.set(Network::Deaf);
    Batch::orders(100).write(&session).await;
    stage.wait_received(200).await;

    // WHEN it is asked twice
    relay.signal("TERM").await;
    relay.wait_notified("STOPPING=1").await;
    relay.signal("TERM").await;

    // THEN it ends, and what was not confirmed is sent again by the next
    relay.wait_exit().await;
    proxy.set(Network::Up);
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_line_says_what_was_left() {
    // GIVEN a relay that has published everything to one broker, and cannot reach the other
    let stage = Stage::both(Database::create().await).await;
    let (proxy, through) = Proxy::in_front_of(&Services::amqp()).await;
    let stage = stage.set("target.amqp", "url", format!("{through:?}"));
    let session = stage.session().await;
    let mut relay = RelayProcess::start(&stage.config).await;
    proxy.set(Network::Refused);
    relay.wait_logged("the broker is not available").await;
    Batch::orders(12).write(&session).await;
    let (name, kafka) = &stage.consumers[1];
    assert_eq!(*name, "kafka");
    kafka.wait_received(12).await;

    // WHEN it is asked to end
    relay.signal("TERM").await;
    assert!(relay.wait_exit().await.success());

    // THEN its last line is true
    let log = relay.log();
    let last = log.trim_end().lines().last().expect("it says something").to_owned();
    let expected = "stopped; target amqp: 12 rows pending; target kafka: nothing pending";
    assert!(last.contains(expected), "{last}");
}
