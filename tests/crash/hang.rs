//! A leader that hangs, is succeeded, and wakes up with messages still in hand.

use std::time::Duration;

use crate::support::database::Database;
use crate::support::relay::{RelayProcess, RelayStart};
use crate::support::rng::seed;
use crate::support::services::Services;
use crate::support::stage::Stage;
use crate::support::writer::{Plan, Writer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_i5_i6_kafka_a_leader_that_wakes_up_behind_its_successor() {
    // GIVEN a leader that delivers to Kafka without a fence, and a standby
    let stage = Stage::new(Database::create().await).await.with_kafka(&Services::kafka()).await;
    let stage = stage.set("lease", "ttl", "\"2s\"").set("lease", "ping_interval", "\"400ms\"").set(
        "lease",
        "standby_interval",
        "\"100ms\"",
    );
    let leader = RelayProcess::start(&stage.config).await;
    let plan = Plan { pause: Duration::from_millis(10), ..Plan::orders(seed(), usize::MAX) };
    let writer = Writer::start(&stage.database, &plan).await;
    stage.wait_received(200).await;
    let standby = RelayStart::new(&stage.config).spawn();

    for _ in 0..2 {
        // WHEN the leader stops in mid-stream, the standby goes on, and the leader wakes up
        leader.signal("STOP").await;
        let stopped_at = stage.consumers[0].1.received();
        stage.wait_received(stopped_at + 500).await;
        leader.signal("CONT").await;
        stage.wait_received(stopped_at + 1_000).await;
    }
    let journal = writer.stop().await;

    // THEN everything is there, first deliveries in order, and what came twice is the same
    stage.wait_received(journal.len()).await;
    stage.wait_settled().await;
    assert!(leader.terminate().await.success());
    assert!(standby.terminate().await.success());
    stage.assert_exact(&journal).await;
}
