//! A second relay on the same configuration waits, and takes over when the first is gone.

use std::time::Duration;

use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::relay::{RelayProcess, RelayStart};
use crate::support::rng::seed;
use crate::support::session::APPLICATION_NAME;
use crate::support::stage::Stage;
use crate::support::writer::{Plan, Writer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_a_standby_takes_over_from_a_killed_leader() {
    // GIVEN a leader that delivers, and a standby
    let stage = Stage::both(Database::create().await).await;
    let stage = stage.set("lease", "standby_interval", "\"100ms\"");
    let session = stage.session().await;
    let leader = RelayProcess::start(&stage.config).await;
    let plan = Plan { pause: Duration::from_millis(10), ..Plan::hostile(seed(), usize::MAX) };
    let writer = Writer::start(&stage.database, &Plan { connections: 8, ..plan }).await;
    stage.wait_received(200).await;
    let backends = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
         AND backend_type = 'client backend' AND application_name <> '{APPLICATION_NAME}'"
    );
    let of_the_leader = session.count(&backends).await;
    let standby = RelayStart::new(&stage.config).spawn();
    until("the standby to be there", async || {
        (session.count(&backends).await > of_the_leader).then_some(())
    })
    .await;
    let duplicates: usize =
        stage.reports(&[]).await.iter().map(|(_, report)| report.duplicates).sum();
    assert_eq!(duplicates, 0, "two relays deliver the same rows");

    // WHEN the leader is killed
    leader.kill().await;
    let killed_at = stage.consumers.iter().map(|(_, consumer)| consumer.received()).max();

    // THEN the standby goes on where the ledger stands
    stage.wait_received(killed_at.unwrap_or(0) + 200).await;
    let journal = writer.stop().await;
    stage.wait_received(journal.len()).await;
    stage.wait_settled().await;
    assert!(standby.terminate().await.success());
    stage.assert_exact(&journal).await;
}
