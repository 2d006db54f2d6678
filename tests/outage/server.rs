//! PostgreSQL that restarts, crashes, or ends a backend of the relay.

use std::time::Duration;

use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::until;
use crate::support::progress::{assert_nobody_blamed, wait_settled};
use crate::support::relay::RelayProcess;
use crate::support::rng::seed;
use crate::support::session::APPLICATION_NAME;
use crate::support::stage::Stage;
use crate::support::writer::{Plan, Writer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i3_i7_postgresql_restarts_and_crashes_in_mid_stream() {
    // GIVEN a stream of messages from a server of its own
    let server = Instance::start(Kind::Postgres).await;
    let stage = Stage::both(Database::create_on(server.url()).await).await;
    let relay = RelayProcess::start(&stage.config).await;
    let plan = Plan { connections: 8, ..Plan::hostile(seed(), usize::MAX) };
    let writer = Writer::start(&stage.database, &plan).await;

    // WHEN it is restarted, and later killed, in mid-stream
    stage.wait_received(200).await;
    server.stop().await;
    server.start_again().await;
    writer.wait_committed(writer.committed() + 300).await;
    stage.wait_received(500).await;
    server.kill().await;
    server.start_again().await;
    writer.wait_committed(writer.committed() + 300).await;
    let journal = writer.stop().await;

    // THEN everything has arrived, in order, and no message was blamed
    stage.wait_received(journal.len()).await;
    stage.wait_settled().await;
    assert_nobody_blamed(&stage.session().await).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i3_i7_backends_of_the_relay_are_terminated() {
    // GIVEN a stream of messages
    let stage = Stage::both(Database::create().await).await;
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    let plan = Plan { pause: Duration::from_millis(10), ..Plan::hostile(seed(), usize::MAX) };
    let plan = Plan { connections: 8, ..plan };
    let writer = Writer::start(&stage.database, &plan).await;

    // WHEN its backends are terminated again and again, one of them or all
    let terminate = |which: &str| {
        format!(
            "SELECT count(pg_terminate_backend(pid)) FROM (
                 SELECT pid FROM pg_stat_activity
                 WHERE datname = current_database() AND backend_type = 'client backend'
                   AND application_name <> '{APPLICATION_NAME}' ORDER BY random() {which}) AS one"
        )
    };
    for round in 1..=6 {
        stage.wait_received(round * 150).await;
        let which = if round % 3 == 0 { "" } else { "LIMIT 1" };
        // After the last round it may still be about to connect.
        until("a backend of the relay", async || {
            (session.count(&terminate(which)).await > 0).then_some(())
        })
        .await;
    }
    let journal = writer.stop().await;

    // THEN everything has arrived, in order, and no message was blamed
    stage.wait_received(journal.len()).await;
    wait_settled(&session, 2).await;
    assert_nobody_blamed(&session).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&journal).await;
}
