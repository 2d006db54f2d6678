//! A broker that is not there at the start, and one that dies in mid-stream.

use std::time::Duration;

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::progress::{assert_nobody_blamed, wait_settled};
use crate::support::relay::RelayStart;
use crate::support::rng::seed;
use crate::support::stage::Stage;
use crate::support::writer::{Plan, Writer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_rabbitmq_down_at_the_start_and_killed_in_mid_stream() {
    let broker = Instance::start(Kind::RabbitMq).await;
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(broker.url(), QueueKind::Classic).await;
    survives(&broker, stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_kafka_down_at_the_start_and_killed_in_mid_stream() {
    let broker = Instance::start(Kind::Kafka).await;
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_kafka(broker.url()).await;
    survives(&broker, stage).await;
}

async fn survives(broker: &Instance, stage: Stage) {
    // GIVEN a writer, a relay, and no broker
    broker.stop().await;
    let session = stage.session().await;
    let relay = RelayStart::new(&stage.config).spawn();
    let plan = Plan { pause: Duration::from_millis(20), ..Plan::orders(seed(), usize::MAX) };
    let writer = Writer::start(&stage.database, &plan).await;
    writer.wait_committed(200).await;
    assert_nobody_blamed(&session).await;

    // WHEN the broker comes, dies in mid-stream, and comes back
    broker.start_again().await;
    stage.wait_received(200).await;
    broker.kill().await;
    writer.wait_committed(writer.committed() + 200).await;
    assert_nobody_blamed(&session).await;
    broker.start_again().await;
    writer.wait_committed(writer.committed() + 100).await;
    let journal = writer.stop().await;

    // THEN everything has arrived, in order, and no message was blamed
    stage.wait_received(journal.len()).await;
    wait_settled(&session, 1).await;
    assert_nobody_blamed(&session).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&journal).await;
}
