//! RabbitMQ's memory alarm: a broker that takes nothing for now, and is not away.

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::until;
use crate::support::progress::assert_nobody_blamed;
use crate::support::relay::RelayProcess;
use crate::support::session::Session;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_broker_that_blocks_its_publishers_is_waited_for() {
    // GIVEN a relay that has delivered something, and gives up on a silent broker soon
    let broker = Instance::start(Kind::RabbitMq).await;
    let stage = Stage::new(Database::create().await).await;
    let stage = stage
        .with_amqp(broker.url(), QueueKind::Classic)
        .await
        .set("target.amqp", "straggler_after", "\"1s\"")
        .set("target.amqp", "confirm_timeout", "\"2s\"")
        .set("target.amqp", "heartbeat", "\"1s\"");
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    Batch::orders(100).write(&session).await;
    stage.wait_settled().await;

    // WHEN the broker blocks its publishers for several times that long
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.00001"]).await;
    Batch::orders(500).write(&session).await;
    until("the broker to block the relay", async || {
        // Of a connection that only consumes it says that it would be: `blocking`.
        let states = broker.rabbitmqctl(&["-s", "list_connections", "state"]).await;
        states.lines().any(|state| state == "blocked").then_some(())
    })
    .await;
    wait_older_than(&session, "8 s").await;

    // THEN nothing has come, nobody is blamed
    assert_eq!(stage.consumers[0].1.received(), 100);
    assert_nobody_blamed(&session).await;

    // AND when it takes messages again, all of them come, once, over the connection that there was
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await;
    stage.wait_received(600).await;
    stage.wait_settled().await;
    let log = relay.log();
    assert_eq!(log.matches("connected to the broker").count(), 1, "{log}");
    assert!(relay.terminate().await.success());
    for (name, report) in stage.assert_exact(&committed(&session).await).await {
        assert_eq!(report.duplicates, 0, "{name}");
    }
}

/// Waits until the last message is so old, by the database's clock.
async fn wait_older_than(session: &Session, age: &str) {
    let young = format!(
        "SELECT count(*) FROM outbox.message WHERE created_at > clock_timestamp() - interval '{age}'"
    );
    until("the messages to grow old", async || (session.count(&young).await == 0).then_some(()))
        .await;
}
