//! Several relays share several pipelines, and share anew when one comes or goes.

use std::time::Duration;

use crate::support::consumer::{AmqpDestination, Destination, QueueKind};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::relay::{RelayConfig, RelayProcess};
use crate::support::rng::seed;
use crate::support::services::Services;
use crate::support::stage::{Stage, unique};
use crate::support::writer::{Plan, Writer};

const TARGETS: [&str; 4] = ["a", "b", "c", "d"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_share_pipelines_and_share_anew_when_one_comes_or_goes() {
    // GIVEN four targets, a stream of messages, and one relay, which leads everything
    let mut stage = Stage::new(Database::create().await).await;
    for name in TARGETS {
        let queue = AmqpDestination::create(&Services::amqp(), &unique(), QueueKind::Classic).await;
        stage = stage.with(name, Destination::Amqp(queue));
    }
    let stage = stage.set("lease", "rebalance_interval", "\"100ms\"");
    let plan = Plan { pause: Duration::from_millis(20), ..Plan::orders(seed(), usize::MAX) };
    let writer = Writer::start(&stage.database, &plan).await;
    let one = RelayProcess::start(&stage.config).await;
    lead("one to lead all", [(&one, 4)]).await;

    // WHEN a second comes THEN each leads two
    let two = RelayProcess::start(&stage.config).await;
    lead("two to lead half", [(&one, 2), (&two, 2)]).await;
    deliver(&stage).await;

    // WHEN a third comes THEN nobody leads more than two, and when the second goes the third has its part
    let three = RelayProcess::start(&stage.config).await;
    lead("a third to wait", [(&one, 2), (&two, 2), (&three, 0)]).await;
    assert!(two.terminate().await.success());
    lead("the third to take over", [(&one, 2), (&three, 2)]).await;
    deliver(&stage).await;
    for (name, report) in stage.reports(&[]).await {
        assert_eq!(report.duplicates, 0, "{name}: a hand-over cost a duplicate");
    }

    // WHEN the third is killed THEN the first leads all, and everything has arrived in order
    three.kill().await;
    lead("one to lead all again", [(&one, 4)]).await;
    deliver(&stage).await;
    let journal = writer.stop().await;
    stage.wait_received(journal.len()).await;
    stage.wait_settled().await;
    assert!(one.terminate().await.success());
    stage.assert_exact(&journal).await;
    // One bell and one keeper a database served all of them.
}

/// GIVEN a relay that has other targets than the first WHEN they share what both have THEN each
/// leads what only it has, and nothing moves for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_with_different_targets_share_what_both_have() {
    let mut stage = Stage::new(Database::create().await).await;
    for name in TARGETS {
        let queue = AmqpDestination::create(&Services::amqp(), &unique(), QueueKind::Classic).await;
        stage = stage.with(name, Destination::Amqp(queue));
    }
    let stage = stage.set("lease", "rebalance_interval", "\"100ms\"");
    let all = RelayProcess::start(&stage.config).await;
    lead("one to lead all", [(&all, 4)]).await;
    let some: RelayConfig = stage.config.clone().without("target.a").without("target.b");
    let some = RelayProcess::start(&some).await;
    // Two of its own and half of two; the other half.
    lead("the other to lead one", [(&all, 3), (&some, 1)]).await;
    assert!(all.terminate().await.success());
    lead("the other to lead what it has", [(&some, 2)]).await;
    assert!(some.terminate().await.success());
}

async fn lead<const N: usize>(what: &str, relays: [(&RelayProcess, usize); N]) {
    until(what, async || {
        relays.iter().all(|(relay, count)| relay.leading() == *count).then_some(())
    })
    .await;
}

/// Waits until every target has something new.
async fn deliver(stage: &Stage) {
    for (_, consumer) in &stage.consumers {
        consumer.wait_received(consumer.received() + 50).await;
    }
}
