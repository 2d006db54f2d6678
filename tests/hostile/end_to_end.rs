//! The whole way under the hostile writer, on every kind of server, into both brokers at once.

use crate::support::database::Database;
use crate::support::relay::RelayProcess;
use crate::support::rng::seed;
use crate::support::services::Services;
use crate::support::stage::Stage;
use crate::support::writer::{Mix, Plan, Writer};

/// GIVEN a relay with an AMQP and a Kafka target
/// WHEN the writer does its worst
/// THEN both have every committed message once, as written, and in order per key
async fn arrives_once_and_in_order(database: Database, plan: Plan) {
    let stage = Stage::both(database).await;
    let relay = RelayProcess::start(&stage.config).await;
    let journal = Writer::start(&stage.database, &plan).await.finish().await;
    stage.wait_received(journal.len()).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    for (name, report) in stage.assert_exact(&journal).await {
        assert_eq!(report.duplicates, 0, "{name}: nothing failed, so nothing is sent twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i2_i3_on_postgresql_15() {
    let plan = Plan::hostile(seed(), 4000);
    arrives_once_and_in_order(Database::create().await, plan).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i2_i3_on_postgresql_18() {
    let plan = Plan::hostile(seed(), 2000);
    arrives_once_and_in_order(Database::create_on(&Services::postgres_18()).await, plan).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i2_i3_with_two_phase_commit() {
    let plan = Plan { mix: Mix::hostile_two_phase(), ..Plan::hostile(seed(), 2000) };
    let database = Database::create_on(&Services::postgres_two_phase()).await;
    arrives_once_and_in_order(database, plan).await;
}
