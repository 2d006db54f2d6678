//! Rows that the reader has given up: their ids were drawn long before, or lie below the floor. They
//! cost order, never a message.

use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::progress::wait_settled;
use crate::support::relay::RelayProcess;
use crate::support::rng::{Rng, seed};
use crate::support::stage::Stage;
use crate::support::writer::{Batch, EarlyIds, committed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_an_id_drawn_before_and_proved_dead_is_delivered() {
    // GIVEN ids that were drawn and not used, which the relay has proved dead
    let stage = Stage::both(Database::create().await).await;
    let mut session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    Batch::orders(50).write(&session).await;
    let mut early = EarlyIds::draw(&session, 20).await;
    Batch::orders(50).write(&session).await;
    stage.wait_received(100).await;
    let open = "SELECT count(*) FROM outbox.hole WHERE dead_at IS NULL";
    let settled_to = "SELECT count(*) FROM outbox.ledger WHERE settled @> int8range(1, 121)";
    until("the holes to be dead", async || {
        let dead = session.count(open).await == 0 && session.count(settled_to).await == 2;
        dead.then_some(())
    })
    .await;

    // WHEN the owner inserts rows with those ids, and the relay is started again, which sweeps
    early.insert(&mut session, &mut Rng::new(seed()), 20).await;
    relay.kill().await;
    let relay = RelayProcess::start(&stage.config).await;

    // THEN they arrive
    stage.wait_received(120).await;
    wait_settled(&session, 2).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_an_id_below_the_floor_is_delivered() {
    // GIVEN retention that deletes at once, and ids drawn before everything that it has deleted
    let stage = Stage::both(Database::create().await).await;
    let stage = stage.set("retention", "keep", "\"0s\"").set("retention", "interval", "\"100ms\"");
    let mut session = stage.session().await;
    let mut early = EarlyIds::draw(&session, 20).await;
    let relay = RelayProcess::start(&stage.config).await;
    Batch::orders(100).write(&session).await;
    stage.wait_received(100).await;
    let left = "SELECT count(*) FROM outbox.message";
    until("everything to be deleted", async || (session.count(left).await == 0).then_some(()))
        .await;

    // WHEN the owner inserts rows with those ids, and the relay is started again, which sweeps
    early.insert(&mut session, &mut Rng::new(seed()), 20).await;
    relay.kill().await;
    let relay = RelayProcess::start(&stage.config).await;

    // THEN they arrive, and are deleted in their turn
    stage.wait_received(120).await;
    until("the late rows to be deleted", async || (session.count(left).await == 0).then_some(()))
        .await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}
