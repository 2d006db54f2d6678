//! A network between relay and RabbitMQ that cuts connections, or swallows what the broker says.

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::progress::{assert_nobody_blamed, wait_settled};
use crate::support::proxy::{Network, Proxy};
use crate::support::relay::RelayProcess;
use crate::support::rng::seed;
use crate::support::services::Services;
use crate::support::stage::Stage;
use crate::support::writer::{Plan, Writer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_i7_a_cut_connection_costs_identical_duplicates() {
    survives(Network::Down).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_i7_lost_confirms_cost_identical_duplicates() {
    survives(Network::Deaf).await;
}

async fn survives(fault: Network) {
    // GIVEN a stream of messages through a network that can be broken
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let (proxy, through) = Proxy::in_front_of(&Services::amqp()).await;
    let stage = stage
        .set("target.amqp", "url", format!("{through:?}"))
        .set("target.amqp", "straggler_after", "\"1s\"")
        .set("target.amqp", "confirm_timeout", "\"2s\"")
        .set("target.amqp", "connect_timeout", "\"2s\"");
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    let plan = Plan { connections: 8, ..Plan::hostile(seed(), usize::MAX) };
    let writer = Writer::start(&stage.database, &plan).await;

    // WHEN it breaks and heals, three times in mid-stream
    for round in 1..=3 {
        stage.wait_received(round * 200).await;
        proxy.set(fault);
        proxy.wait_connections(1).await;
        proxy.set(Network::Up);
    }
    let journal = writer.stop().await;

    // THEN everything has arrived, in order, and what came twice was the same
    stage.wait_received(journal.len()).await;
    wait_settled(&session, 1).await;
    assert_nobody_blamed(&session).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&journal).await;
}
