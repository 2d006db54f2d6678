//! What a take-over costs, in milliseconds, with the defaults. Nothing is asserted but the exactness:
//! `./dev test figure -- --ignored --nocapture` prints.

use std::time::Duration;

use crate::leadership::report_pause;
use crate::support::database::Database;
use crate::support::relay::RelayProcess;
use crate::support::rng::seed;
use crate::support::stage::Stage;
use crate::support::writer::{Plan, Writer};

/// How a leader ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Graceful,
    Kill,
    Hang,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures, and takes as long as leases do"]
async fn what_a_take_over_costs() {
    for fence in ["none", "transaction"] {
        for end in [End::Graceful, End::Kill, End::Hang] {
            let stage = Stage::both(Database::create().await).await;
            let stage = stage.set("target.kafka", "fence", format!("{fence:?}"));
            measure(&stage, end, fence).await;
        }
    }
}

async fn measure(stage: &Stage, end: End, fence: &str) {
    let leader = RelayProcess::start(&stage.config).await;
    leader.wait_logged("connected to the broker").await;
    let standby = RelayProcess::start(&stage.config).await;
    let plan = Plan { pause: Duration::from_millis(5), ..Plan::orders(seed(), usize::MAX) };
    let writer = Writer::start(&stage.database, &plan).await;
    stage.wait_received(2_000).await;
    let hung = match end {
        End::Graceful => {
            assert!(leader.terminate().await.success());
            None
        }
        End::Kill => {
            leader.kill().await;
            None
        }
        End::Hang => {
            leader.signal("STOP").await;
            Some(leader)
        }
    };
    let received = stage.consumers.iter().map(|(_, consumer)| consumer.received()).max();
    stage.wait_received(received.unwrap_or(0) + 2_000).await;
    let journal = writer.stop().await;
    stage.wait_received(journal.len()).await;
    stage.wait_settled().await;
    for (name, report) in stage.assert_exact(&journal).await {
        println!("{end:?}: {} duplicates at {name}", report.duplicates);
    }
    report_pause(&format!("{end:?}, kafka fence = {fence}"), stage);
    if let Some(hung) = hung {
        hung.kill().await;
    }
    assert!(standby.terminate().await.success());
}
