//! A rolling upgrade: the leader is asked to end, and a standby goes on.

use std::time::Duration;

use crate::leadership::report_pause;
use crate::support::database::Database;
use crate::support::relay::RelayProcess;
use crate::support::rng::seed;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, Plan, Writer, committed};

/// How often the leader is replaced.
const ROUNDS: usize = 3;
/// Before it is replaced, and after.
const ROWS: usize = 400;

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

/// What a standby has prepared was planned for tables that have been rewritten since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_goes_on_whatever_was_done_to_the_tables_meanwhile() {
    // GIVEN a leader and a standby, and tables that are rewritten and altered under both
    let stage = Stage::both(Database::create().await).await;
    let leader = RelayProcess::start(&stage.config).await;
    leader.wait_logged("connected to the broker").await;
    let standby = RelayProcess::start(&stage.config).await;
    let session = stage.session().await;
    Batch::orders(ROWS).write(&session).await;
    stage.wait_received(ROWS).await;
    stage.wait_settled().await;
    for statement in [
        "VACUUM FULL outbox.message",
        "VACUUM FULL outbox.ledger",
        "VACUUM FULL outbox.retry",
        "ALTER TABLE outbox.message ADD COLUMN note text",
        "REINDEX TABLE outbox.message",
        "ANALYZE outbox.message",
    ] {
        session.run(statement).await;
    }

    // WHEN the standby leads
    assert!(leader.terminate().await.success());
    Batch::orders(ROWS).write(&session).await;
    stage.wait_received(2 * ROWS).await;
    stage.wait_settled().await;

    // THEN everything has arrived in order, and nothing twice
    assert!(standby.terminate().await.success());
    let journal = committed(&session).await;
    for (name, report) in stage.assert_exact(&journal).await {
        assert_eq!(report.duplicates, 0, "{name}");
    }
}
