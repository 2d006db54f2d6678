//! A message that can never be sent, and what becomes of its key.

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::progress::wait_settled;
use crate::support::relay::{RelayProcess, command};
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

const KEYS: usize = 4;

/// A target whose routing key is longer than AMQP allows for one topic.
async fn stage(on_poison: &str) -> (Stage, Session) {
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let exchange = stage.exchange();
    let good = format!(
        "{{ topic = \"*\", exchange = \"{exchange}\", routing_key = \"{{{{ topic }}}}\" }}"
    );
    let poison = format!(
        "{{ topic = \"poison\", exchange = \"{exchange}\", routing_key = '{{{{ headers.to | \"{}\" }}}}' }}",
        "x".repeat(256)
    );
    let stage = stage.set("target.amqp", "route", format!("[{poison}, {good}]")).set(
        "target.amqp",
        "on_poison",
        format!("\"{on_poison}\""),
    );
    let session = stage.session().await;
    (stage, session)
}

/// Messages of a batch, and those of one key among them.
const BATCH: usize = 100;
const SHARE: usize = BATCH / KEYS;

async fn write(session: &Session) {
    Batch { keys: KEYS, ..Batch::orders(BATCH) }.write(session).await;
}

/// Writes one poison message of key `key-1` behind what is there, and waits until it is dead: what is
/// in flight behind it might pass it.
async fn poison(session: &Session) {
    let insert = "INSERT INTO outbox.message (topic, key, payload) VALUES ('poison', 'key-1', 'x')";
    session.run(insert).await;
    until("the poison to be dead", async || {
        (session.count("SELECT count(*) FROM outbox.dead").await == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_poison_message_delays_nobody() {
    let (stage, session) = stage("skip").await;
    let relay = RelayProcess::start(&stage.config).await;
    write(&session).await;
    poison(&session).await;
    write(&session).await;
    stage.wait_received(2 * BATCH).await;
    let reason = "SELECT count(*) FROM outbox.dead WHERE reason LIKE 'routing key of 256 bytes%'";
    assert_eq!(session.count(reason).await, 1);
    wait_settled(&session, 1).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

/// GIVEN `on_poison = "hold_key"` WHEN a message of a key dies THEN the later ones of that key wait, over
/// a restart as well, until a person has discarded it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_key_waits_for_a_person() {
    let (stage, session) = stage("hold_key").await;
    let relay = RelayProcess::start(&stage.config).await;
    write(&session).await;
    poison(&session).await;
    write(&session).await;
    stage.wait_received(2 * BATCH - SHARE).await;
    wait_held(&session, SHARE).await;
    let dead = "SELECT count(*) FROM outbox.message_state WHERE state = 'dead'";
    assert_eq!(session.count(dead).await, 1);

    relay.kill().await;
    let relay = RelayProcess::start(&stage.config).await;
    write(&session).await;
    stage.wait_received(3 * BATCH - 2 * SHARE).await;
    wait_held(&session, 2 * SHARE).await;

    let id = session.count("SELECT id FROM outbox.dead").await.to_string();
    let discard = ["dead", "discard", "--target", "amqp", "--id", &id, "--reason", "not needed"];
    let output = command(&stage.config, &discard).await;
    assert!(output.status.success(), "{output:?}");
    stage.wait_received(3 * BATCH).await;
    wait_settled(&session, 1).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

async fn wait_held(session: &Session, rows: usize) {
    let held = "SELECT count(*) FROM outbox.message_state WHERE state = 'held'";
    until("the rest of the key to be held", async || {
        (session.count(held).await == rows as i64).then_some(())
    })
    .await;
}
