//! A leader whose database has fallen silent, while a standby reaches it.

use crate::leadership::{NEW, OLD, assert_not_interleaved, report_pause};
use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::proxy::Network;
use crate::support::relay::{RelayProcess, RelayStart};
use crate::support::services::Services;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

/// Far more than is delivered in a lease; all of them fit into the leader's memory.
const ROWS: usize = 60_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_a_leader_that_cannot_prove_its_lease_stops_before_the_next_begins() {
    // GIVEN a leader whose database is behind a network, in mid-stream with everything read; no fence
    let stage = Stage::new(Database::create().await).await;
    let stage = stage
        .with_amqp(&Services::amqp(), QueueKind::Classic)
        .await
        .set("target.amqp", "fence", "\"none\"")
        .set("lease", "ttl", "\"2s\"")
        .set("lease", "ping_interval", "\"400ms\"");
    let session = stage.session().await;
    let direct = stage.config.clone().tagged(NEW);
    let (proxy, stage) = stage.behind_proxy().await;
    let leader = RelayProcess::start(&stage.config.clone().tagged(OLD)).await;
    leader.wait_logged("connected to the broker").await;
    let standby = RelayStart::new(&direct).ready().await;
    Batch::orders(ROWS).write(&session).await;
    stage.wait_received(ROWS / 20).await;

    // WHEN the database falls silent for the leader alone
    proxy.set(Network::Deaf);
    standby.wait_logged("leading").await;
    stage.wait_received(ROWS).await;
    proxy.set(Network::Up);
    stage.wait_settled().await;

    // THEN it had published its last message before the standby published its first
    let journal = committed(&session).await;
    stage.assert_exact(&journal).await;
    assert_not_interleaved(&stage.consumers[0].1.deliveries());
    report_pause("silent database", &stage);
    assert!(leader.log().contains("the lease was not renewed in time"), "{}", leader.log());
    assert!(leader.terminate().await.success());
    assert!(standby.terminate().await.success());
}
