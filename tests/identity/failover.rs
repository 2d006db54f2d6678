//! What changes the server and not the outbox: it leads on, whatever the timeline is.

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::until;
use crate::support::relay::{RelayConfig, RelayProcess, quoted};
use crate::support::services::Services;
use crate::support::stage::Stage;

const INSERT: &str = "INSERT INTO outbox.message (topic) VALUES ('t')";

/// WHEN a message is written there THEN it is delivered and settled.
async fn assert_leads(stage: &Stage, config: &RelayConfig, database: &Database, received: usize) {
    let session = database.connect().await;
    session.run(INSERT).await;
    let relay = RelayProcess::start(config).await;
    stage.wait_received(received).await;
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_a_promotion_and_a_recovery_to_a_point_in_time_lead_on() {
    // GIVEN
    let primary = Instance::start(Kind::Postgres).await;
    let stage = Stage::new(Database::create_on(primary.url()).await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let role = format!("{}_relay", stage.database.name);
    assert_leads(&stage, &stage.config, &stage.database, 1).await;

    // WHEN the server crashes THEN
    primary.kill().await;
    primary.start_again().await;
    assert_leads(&stage, &stage.config, &stage.database, 2).await;

    for (round, recovers_to) in [(3, None), (4, Some("here"))] {
        // WHEN a standby is promoted, by hand or by reaching a point in time
        let target = recovers_to.map(|name| format!("recovery_target_name={name}"));
        let replica_of = format!("replica_of={}", primary.url());
        let mut arguments = vec![replica_of.as_str()];
        if let Some(target) = &target {
            arguments.extend([target.as_str(), "recovery_target_action=promote"]);
        }
        let replica = Instance::start_with(Kind::Postgres, &arguments).await;
        let moved = stage.database.moved_to(replica.url());
        let on_replica = moved.connect().await;
        match recovers_to {
            None => on_replica.run("SELECT pg_promote()").await,
            Some(name) => {
                let session = stage.session().await;
                // The second flushes the first: only then does the standby see it.
                let point =
                    format!("SELECT pg_create_restore_point('{name}'); SELECT pg_switch_wal()");
                session.run(&point).await;
            }
        }
        let primaries = "SELECT (NOT pg_is_in_recovery())::int::bigint";
        until("the promotion", async || (on_replica.count(primaries).await == 1).then_some(()))
            .await;
        let timeline = "SELECT timeline_id::bigint FROM pg_control_checkpoint()";
        until("another timeline", async || (on_replica.count(timeline).await > 1).then_some(()))
            .await;

        // THEN
        let config = stage.config.clone().set("database", "url", quoted(&moved.url_as(&role)));
        assert_leads(&stage, &config, &moved, round).await;
    }
}
