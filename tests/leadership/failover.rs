//! PostgreSQL fails over: the address that the relay knows leads to a promoted standby.

use crate::support::checker::check;
use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::until;
use crate::support::progress::wait_settled;
use crate::support::relay::RelayProcess;
use crate::support::session::APPLICATION_NAME;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

const ROWS: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i4_a_promoted_standby_is_read_and_marked_and_nothing_else() {
    // GIVEN a primary with a standby, and a relay in mid-stream that reaches the primary by an address
    let primary = Instance::start(Kind::Postgres).await;
    let database = Database::create_on(primary.url()).await;
    let replica = Instance::start_replica_of(&primary).await;
    let moved = database.moved_to(replica.url());
    let stage = Stage::both(database).await;
    let (proxy, stage) = stage.behind_proxy().await;
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    Batch::orders(ROWS).write(&session).await;
    let lsn = "SELECT pg_current_wal_flush_lsn()::text";
    let lsn: String = session.query_one(lsn, &[]).await.expect("a primary").get(0);
    let on_replica = moved.connect().await;
    let replayed = format!("SELECT (pg_last_wal_replay_lsn() >= '{lsn}')::int::bigint");
    until("the standby to have every row", async || {
        (on_replica.count(&replayed).await == 1).then_some(())
    })
    .await;
    stage.wait_received(ROWS / 10).await;

    // WHEN the address moves to the standby, which is promoted, while the old primary lives on; one
    // after the other the relay's sessions end there
    proxy.move_to(replica.url());
    on_replica.run("SELECT pg_promote()").await;
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND backend_type = 'client backend'
           AND application_name <> '{APPLICATION_NAME}' AND application_name LIKE '% reader %'"
    );
    session.count(&end).await;
    until("the relay to read from the new primary", async || {
        let readers =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '% reader %'";
        (on_replica.count(readers).await > 0).then_some(())
    })
    .await;
    // THEN it has no session left there that marks
    let leases = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '% lease %'";
    until("the relay to leave the old primary", async || {
        (session.count(leases).await == 0).then_some(())
    })
    .await;
    Batch::orders(ROWS / 10).write(&on_replica).await;

    // THEN what survived is delivered, and settled where it stands
    stage.wait_received(ROWS + ROWS / 10).await;
    wait_settled(&on_replica, 2).await;
    let journal = committed(&on_replica).await;
    for (name, consumer) in &stage.consumers {
        consumer.drain().await;
        check(&journal, &consumer.deliveries()).assert_exact(name);
    }
    assert!(relay.terminate().await.success());
}
