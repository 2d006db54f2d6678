//! kill -9 at random moments under the hostile writer.

use std::time::Duration;

use crate::support::database::Database;
use crate::support::relay::RelayProcess;
use crate::support::rng::{Rng, seed};
use crate::support::stage::Stage;
use crate::support::writer::{Plan, Writer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i2_i3_i5_killed_again_and_again_under_the_hostile_writer() {
    // GIVEN the hostile writer and both brokers
    let stage = Stage::both(Database::create().await).await;
    let mut rng = Rng::new(seed());
    let plan = Plan { connections: 16, ..Plan::hostile(rng.next(), usize::MAX) };
    let plan = Plan { pause: Duration::from_millis(10), ..plan };
    let writer = Writer::start(&stage.database, &plan).await;

    // WHEN the relay is killed in mid-stream and started again, four times
    let mut received = 0;
    for _ in 0..4 {
        let relay = RelayProcess::start(&stage.config).await;
        received += 200 + rng.below(200) as usize;
        stage.wait_received(received).await;
        relay.kill().await;
        received =
            stage.consumers.iter().map(|(_, consumer)| consumer.received()).max().unwrap_or(0);
    }
    let relay = RelayProcess::start(&stage.config).await;
    let journal = writer.stop().await;

    // THEN both brokers have everything, in order, and what came twice is the same
    stage.wait_received(journal.len()).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&journal).await;
}
