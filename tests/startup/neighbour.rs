//! Several targets at one broker: what one of them hears ends the pause of the others.

use crate::support::consumer::{AmqpDestination, Destination, QueueKind};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::proxy::{Network, Proxy};
use crate::support::relay::{RelayProcess, quoted};
use crate::support::services::Services;
use crate::support::stage::{Stage, unique};
use crate::support::writer::Batch;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_answer_of_a_broker_ends_the_pause_of_every_target() {
    // GIVEN two targets at one broker, of which one pauses for an hour after an outage
    let (proxy, through) = Proxy::in_front_of(&Services::amqp()).await;
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let other = AmqpDestination::create(&Services::amqp(), &unique(), QueueKind::Classic).await;
    let stage = stage
        .with("patient", Destination::Amqp(other))
        .set("target.amqp", "url", quoted(&through))
        .set("target.patient", "url", quoted(&through))
        .set("target.patient", "outage_backoff_min", quoted("1h"))
        .set("target.patient", "outage_backoff_max", quoted("1h"));
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    Batch::orders(10).write(&session).await;
    stage.wait_received(10).await;

    // WHEN the broker goes and comes back
    proxy.set(Network::Down);
    until("both targets to wait for the broker", async || {
        let lines = relay.notified();
        let last = lines.iter().rev().find(|line| line.starts_with("STATUS="))?;
        (last.matches("waiting for the broker").count() == 2).then_some(())
    })
    .await;
    Batch::orders(10).write(&session).await;
    proxy.set(Network::Up);

    // THEN both go on
    stage.wait_received(20).await;
    assert!(relay.terminate().await.success());
}
