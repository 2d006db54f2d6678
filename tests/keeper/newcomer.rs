//! Nothing is deleted before every configured target has a ledger.

use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::relay::{RelayProcess, RelayStart};
use crate::support::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_rows_wait_for_a_configured_target_that_is_slow_to_start() {
    // GIVEN two targets; somebody keeps the second from starting, and settled rows are not kept
    let stage = Stage::both(Database::create().await).await;
    let stage = stage.set("retention", "keep", "\"0s\"").set("retention", "interval", "\"100ms\"");
    let session = stage.session().await;
    session.run("INSERT INTO outbox.message (topic) SELECT 'x' FROM generate_series(1, 5)").await;
    let blocker = stage.session().await;
    blocker.run("SELECT pg_advisory_lock(k1, k2) FROM outbox.lock_key('kafka')").await;
    let relay: RelayProcess = RelayStart::new(&stage.config).spawn();
    // WHEN the first has settled everything, and the keeper has looked
    let (_, amqp) = &stage.consumers[0];
    amqp.wait_received(5).await;
    until("the keeper to wait", async || {
        relay.log().contains("retention waits for a target that has no ledger yet").then_some(())
    })
    .await;
    until("the first to have settled all", async || {
        let settled =
            "SELECT count(*) FROM outbox.ledger WHERE settled @> '{[1,6)}'::int8multirange";
        (session.count(settled).await == 1).then_some(())
    })
    .await;
    assert_eq!(session.count("SELECT floor FROM outbox.meta").await, 1);
    // THEN the second gets every row, and only then they are deleted
    drop(blocker);
    stage.wait_received(5).await;
    until("the rows to be deleted", async || {
        (session.count("SELECT count(*) FROM outbox.message").await == 0).then_some(())
    })
    .await;
    assert!(relay.terminate().await.success());
}
