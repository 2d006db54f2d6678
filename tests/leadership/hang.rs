//! A leader that hangs in mid-stream and wakes when another one leads.

use crate::leadership::{NEW, OLD, assert_not_interleaved, report_pause};
use crate::support::checker::Report;
use crate::support::consumer::{Destination, KafkaDestination, QueueKind};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::proxy::{Network, Proxy};
use crate::support::relay::{RelayConfig, RelayProcess};
use crate::support::services::Services;
use crate::support::stage::{Stage, unique};
use crate::support::writer::{Batch, committed};

const ROWS: usize = 20_000;
const WINDOW: usize = 1_000;

/// What was confirmed and not marked, at a few milliseconds between two marks.
const UNMARKED_MAX: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_rabbitmqs_fence_keeps_a_woken_leader_out() {
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    // The broker keeps the connection of a silent client for two heartbeats at least, and the lease ends long
    // before. What the leader has sent is on its way all that time: without a fence it arrives among
    // the messages of the successor.
    let stage = stage.set("target.amqp", "heartbeat", "\"3s\"");
    let (network, through) = Proxy::in_front_of(&Services::amqp()).await;
    let old = stage.config.clone().set("target.amqp", "url", format!("{through:?}"));
    stopped_and_woken(&stage, old, Some(&network)).await;
    assert_not_interleaved(&stage.consumers[0].1.deliveries());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_a_transactional_id_keeps_a_woken_leader_out() {
    let stage = kafka().await.set("target.kafka", "fence", "\"transaction\"");
    stopped_and_woken(&stage, stage.config.clone(), None).await;
    assert_not_interleaved(&stage.consumers[0].1.deliveries());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_i5_without_a_fence_a_woken_leader_sends_duplicates_and_no_more() {
    let stage = kafka().await;
    let report = stopped_and_woken(&stage, stage.config.clone(), None).await;
    // What the new one sends again, and what the old one still has in hand.
    let bound = 2 * (WINDOW + UNMARKED_MAX);
    assert!(report.duplicates <= bound, "{} duplicates", report.duplicates);
}

/// One partition: its order is the order in which the broker took the messages.
async fn kafka() -> Stage {
    let stage = Stage::new(Database::create().await).await;
    let destination = KafkaDestination::create(&Services::kafka(), &unique(), 1).await;
    stage.with("kafka", Destination::Kafka(destination))
}

/// `old` is the configuration of the leader; what it sends stands still in `network` while it does.
async fn stopped_and_woken(stage: &Stage, old: RelayConfig, network: Option<&Proxy>) -> Report {
    // GIVEN a leader in mid-stream, and a standby
    let name = stage.consumers[0].0;
    let short = |config: RelayConfig| {
        config.set("lease", "ttl", "\"2s\"").set("lease", "ping_interval", "\"400ms\"").set(
            &format!("target.{name}"),
            "window_messages_max",
            WINDOW,
        )
    };
    let session = stage.session().await;
    let leader = RelayProcess::start(&short(old).tagged(OLD)).await;
    leader.wait_logged("connected to the broker").await;
    let standby = RelayProcess::start(&short(stage.config.clone()).tagged(NEW)).await;
    Batch::orders(ROWS).write(&session).await;
    stage.wait_received(ROWS / 10).await;

    // WHEN the leader is stopped, the standby delivers the rest, and the leader goes on
    if let Some(network) = network {
        network.set(Network::Mute);
        // What was on the wire already is of no use; the confirms of it let the leader go on.
        network.wait_held().await;
    }
    leader.signal("STOP").await;
    if let Some(network) = network {
        // As soon as it can be in the wrong place.
        let new = Some(NEW);
        until("the standby to publish", async || {
            let deliveries = stage.consumers[0].1.deliveries();
            deliveries.iter().any(|delivery| delivery.relay.as_deref() == new).then_some(())
        })
        .await;
        network.set(Network::Up);
    }
    stage.wait_received(ROWS).await;
    if network.is_some() {
        // It arrives, where it can, before the leader wakes and cuts its connection.
        stage.consumers[0].1.drain().await;
    }
    leader.signal("CONT").await;
    leader.wait_logged("starting anew").await;
    stage.wait_settled().await;

    // THEN everything has arrived, in order, and what came twice was the same
    let journal = committed(&session).await;
    let mut reports = stage.assert_exact(&journal).await;
    report_pause("hang", stage);
    assert!(leader.terminate().await.success());
    assert!(standby.terminate().await.success());
    reports.remove(0).1
}
