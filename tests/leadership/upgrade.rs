//! A rolling upgrade: the leader is asked to end, and a standby goes on.

use std::time::Duration;

use crate::leadership::report_pause;
use crate::support::database::Database;
use crate::support::relay::RelayProcess;
use crate::support::rng::seed;
use crate::support::stage::Stage;
use crate::support::writer::{Plan, Writer};

/// How often the leader is replaced.
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_replaced_costs_no_duplicate() {
    // GIVEN a stream of messages, a leader and a standby
    let stage = Stage::both(Database::create().await).await;
    let mut leader = RelayProcess::start(&stage.config).await;
    leader.wait_logged("connected to the broker").await;
    let plan = Plan { pause: Duration::from_millis(5), ..Plan::orders(seed(), usize::MAX) };
    let writer = Writer::start(&stage.database, &plan).await;

    // WHEN the leader is replaced, again and again, in mid-stream
    for round in 1..=ROUNDS {
        let standby = RelayProcess::start(&stage.config).await;
        stage.wait_received(round * 500).await;
        assert!(leader.terminate().await.success());
        leader = standby;
    }
    let received = stage.consumers.iter().map(|(_, consumer)| consumer.received()).max();
    stage.wait_received(received.unwrap_or(0) + 200).await;
    let journal = writer.stop().await;
    stage.wait_received(journal.len()).await;
    stage.wait_settled().await;

    // THEN everything has arrived in order, and nothing twice
    assert!(leader.terminate().await.success());
    for (name, report) in stage.assert_exact(&journal).await {
        assert_eq!(report.duplicates, 0, "{name}");
    }
    report_pause("graceful", &stage);
}
