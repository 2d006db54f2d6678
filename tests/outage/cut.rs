//! A connection that is cut with messages in flight: those come twice, and say so.

use std::collections::HashSet;

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::proxy::{Network, Proxy};
use crate::support::relay::RelayProcess;
use crate::support::services::Services;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_what_was_in_flight_when_a_connection_was_cut_says_that_it_comes_again() {
    // GIVEN messages that the broker has, and the relay does not know it
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let (proxy, through) = Proxy::in_front_of(&Services::amqp()).await;
    let stage = stage.set("target.amqp", "url", format!("{through:?}"));
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    Batch::orders(100).write(&session).await;
    stage.wait_settled().await;
    proxy.set(Network::Deaf);
    Batch::orders(100).write(&session).await;
    stage.wait_received(200).await;

    // WHEN the connection is cut
    proxy.set(Network::Down);
    proxy.wait_connections(1).await;
    proxy.set(Network::Up);
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());

    // THEN exactly those come again, and say why
    stage.assert_exact(&committed(&session).await).await;
    let mut seen = HashSet::new();
    let again: Vec<_> = stage.consumers[0]
        .1
        .deliveries()
        .into_iter()
        .filter(|delivery| !seen.insert(delivery.message_id))
        .map(|delivery| delivery.resent)
        .collect();
    assert_eq!(again, vec![Some("reconnect".to_owned()); 100]);
}
