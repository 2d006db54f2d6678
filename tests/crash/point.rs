//! A relay that dies at a named point: before and after each of its effects.

use crate::support::checker::check;
use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::progress::sent;
use crate::support::relay::{RelayProcess, RelayStart};
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

/// GIVEN a backlog
/// WHEN the relay dies at `point` in the middle of it
/// THEN every message that is marked as sent was received; and after a restart everything is there,
/// in order, and what came twice is the same
async fn dies_at(point: &str, nth: usize, stage: Stage) {
    let session = stage.session().await;
    for _ in 0..20 {
        Batch::orders(100).write(&session).await;
    }
    die(point, nth, &stage).await;
    assert_marked_was_received(&stage, &session).await;

    let relay = RelayProcess::start(&stage.config).await;
    finish(relay, &stage, &session).await;
}

async fn die(point: &str, nth: usize, stage: &Stage) {
    let mut relay = RelayStart::new(&stage.config).crash_at(point, nth).spawn();
    let status = relay.wait_exit().await;
    assert!(
        status.code().is_none(),
        "it should have died at {point}, not {status}:\n{}",
        relay.log()
    );
}

async fn assert_marked_was_received(stage: &Stage, session: &Session) {
    for (name, consumer) in &stage.consumers {
        let marked = sent(session, name).await;
        consumer.drain().await;
        let received = consumer.deliveries().into_iter().filter_map(|d| d.message_id).collect();
        let unconfirmed: Vec<_> = marked.difference(&received).collect();
        assert!(unconfirmed.is_empty(), "{name}: marked and never received: {unconfirmed:?}");
    }
}

async fn finish(relay: RelayProcess, stage: &Stage, session: &Session) {
    let journal = committed(session).await;
    stage.wait_received(journal.len()).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&journal).await;
}

async fn amqp() -> Stage {
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    stage.set("target.amqp", "window_messages_max", 100)
}

async fn kafka() -> Stage {
    let stage = Stage::new(Database::create().await).await.with_kafka(&Services::kafka()).await;
    stage.set("target.kafka", "window_messages_max", 100)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_i5_rabbitmq_before_send() {
    dies_at("before_send", 700, amqp().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_i5_rabbitmq_after_send() {
    dies_at("after_send", 5, amqp().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_i5_rabbitmq_after_confirm() {
    dies_at("after_confirm", 700, amqp().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_i5_rabbitmq_after_mark() {
    dies_at("after_mark", 5, amqp().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_i5_kafka_before_send() {
    dies_at("before_send", 700, kafka().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_i5_kafka_after_send() {
    dies_at("after_send", 5, kafka().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_i5_kafka_after_confirm() {
    dies_at("after_confirm", 700, kafka().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_i5_kafka_after_mark() {
    dies_at("after_mark", 5, kafka().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_between_the_arrival_of_a_hole_and_its_confirm() {
    // GIVEN rows that are read past and set aside as an open hole
    let stage = amqp().await;
    let session = stage.session().await;
    let long = stage.session().await;
    let held = Batch { key_prefix: "held", ..Batch::orders(50) };
    Batch::orders(50).write(&session).await;
    held.begin(&long).await;
    Batch::orders(50).write(&session).await;
    let mut relay = RelayStart::new(&stage.config).crash_at("hole_arrived", 1).ready().await;
    stage.wait_received(100).await;

    // WHEN they are committed, and the relay dies when it has read one of them
    long.run("COMMIT").await;
    relay.wait_exit().await;

    // THEN none is taken for sent
    assert_marked_was_received(&stage, &session).await;
    let relay = RelayProcess::start(&stage.config).await;
    finish(relay, &stage, &session).await;
    // The checker has seen the same; this says it about the ledger alone.
    let report = check(&committed(&session).await, &stage.consumers[0].1.deliveries());
    assert_eq!(report.received, 150);
}
