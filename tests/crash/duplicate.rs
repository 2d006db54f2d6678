//! What a crash in full drain sends twice: how much, what it says, and nothing else.

use std::collections::HashSet;

use uuid::Uuid;

use crate::support::consumer::{Consumer, QueueKind};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::progress::sent;
use crate::support::relay::{RelayProcess, RelayStart};
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

const WINDOW: usize = 2_000;

/// What a crash may send again: a window that was in flight, and what was confirmed and not marked.
/// A mark is written every few milliseconds and holds all that was confirmed until then, far less
/// than another window, which takes a broker the better part of a second.
const DUPLICATES_MAX: usize = 2 * WINDOW;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_rabbitmq_a_death_in_full_drain_costs_at_most_what_was_not_marked() {
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    dies_in_full_drain("amqp", stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_kafka_a_death_in_full_drain_costs_at_most_what_was_not_marked() {
    let stage = Stage::new(Database::create().await).await.with_kafka(&Services::kafka()).await;
    dies_in_full_drain("kafka", stage).await;
}

async fn dies_in_full_drain(name: &str, stage: Stage) {
    // GIVEN a backlog, and a relay that dies in the middle of it
    let stage = stage.set(&format!("target.{name}"), "window_messages_max", WINDOW);
    let session = stage.session().await;
    for _ in 0..20 {
        Batch::orders(1_000).write(&session).await;
    }
    // Not killed from here: by then it may have finished. This one dies of a confirm, which is not marked.
    let mut relay = RelayStart::new(&stage.config).crash_at("after_confirm", 7_000).spawn();

    // WHEN it dies, and another finishes
    assert!(relay.wait_exit().await.code().is_none(), "{}", relay.log());
    let died = relay.log();
    let marked = marked(&session, name).await;
    let consumer = &stage.consumers[0].1;
    consumer.drain().await;
    let received: HashSet<Uuid> = repeated(consumer).first.into_iter().collect();
    let relay = RelayProcess::start(&stage.config).await;
    let journal = committed(&session).await;
    stage.wait_received(journal.len()).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());

    // THEN it sent again what was not marked, once, and said so; nothing that was marked
    stage.assert_exact(&journal).await;
    let again = repeated(consumer).again;
    let ids: HashSet<Uuid> = again.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), again.len(), "a message came three times");
    assert!(!ids.is_empty() && ids.len() <= DUPLICATES_MAX, "{} duplicates", ids.len());
    let marked_again: Vec<_> = again.iter().filter(|(id, _)| marked.contains(id)).collect();
    assert!(marked_again.is_empty(), "what was marked was sent again: {marked_again:?}\n{died}");
    assert!(received.difference(&marked).all(|id| ids.contains(id)), "what was not marked is not");
    let unsaid = again.iter().filter(|(_, resent)| resent.as_deref() != Some("takeover")).count();
    assert_eq!(unsaid, 0, "of {} duplicates", again.len());
}

/// What is marked once the last statement of a dead relay has ended.
async fn marked(session: &Session, name: &str) -> HashSet<Uuid> {
    let leases = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND application_name LIKE 'outbox-relay lease%'";
    until("the dead relay's session to end", async || {
        (session.count(leases).await == 0).then_some(())
    })
    .await;
    sent(session, name).await
}

/// The deliveries of a consumer, by message.
struct Repeated {
    first: Vec<Uuid>,
    /// With what they say about it.
    again: Vec<(Uuid, Option<String>)>,
}

fn repeated(consumer: &Consumer) -> Repeated {
    let mut seen = HashSet::new();
    let mut repeated = Repeated { first: Vec::new(), again: Vec::new() };
    for delivery in consumer.deliveries() {
        let id = delivery.message_id.expect("the checker has seen that all have one");
        if seen.insert(id) {
            repeated.first.push(id);
        } else {
            repeated.again.push((id, delivery.resent));
        }
    }
    repeated
}
