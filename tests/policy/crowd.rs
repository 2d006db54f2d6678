//! One key with a million rows behind a message that is refused: memory stays what it was.

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::relay::RelayProcess;
use crate::support::services::Services;
use crate::support::stage::Stage;

const ROWS: i64 = 1_000_000;
const MIB: u64 = 1 << 20;

/// GIVEN a key whose first message is dead and holds it WHEN a million more are committed THEN all of
/// them are set aside in the database, and the relay has not grown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_a_million_rows_of_a_held_key_take_no_memory() {
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let exchange = stage.exchange();
    let route = format!(
        "[{{ topic = \"poison\", exchange = \"{exchange}\", routing_key = '{{{{ headers.to | \"{}\" }}}}' }},
          {{ topic = \"*\", exchange = \"{exchange}\", routing_key = \"{{{{ topic }}}}\" }}]",
        "x".repeat(256)
    );
    let stage =
        stage.set("target.amqp", "route", route).set("target.amqp", "on_poison", "\"hold_key\"");
    let session = stage.session().await;
    session
        .run("INSERT INTO outbox.message (topic, key, payload) VALUES ('poison', 'k', 'x')")
        .await;
    let relay = RelayProcess::start(&stage.config).await;
    let insert = |rows: i64| {
        format!(
            "INSERT INTO outbox.message (topic, key, payload)
             SELECT 'order.created', 'k', repeat('x', 100)::bytea FROM generate_series(1, {rows})"
        )
    };
    let held = "SELECT count(*) FROM outbox.retry WHERE class = 'held'";
    let wait_held = async |rows: i64| {
        until("the rows to be set aside", async || {
            (session.count(held).await == rows).then_some(())
        })
        .await;
    };
    // What a full pipeline takes, once.
    session.run(&insert(ROWS / 10)).await;
    wait_held(ROWS / 10).await;
    let before = relay.memory();

    for share in 2..=10 {
        session.run(&insert(ROWS / 10)).await;
        wait_held(ROWS / 10 * share).await;
    }
    let after = relay.memory();
    let grown = after.peak.saturating_sub(before.peak);
    assert!(grown < 16 * MIB, "grown by {} MiB: {before:?} {after:?}", grown / MIB);
    // And the others flow.
    session.run("INSERT INTO outbox.message (topic, key, payload) VALUES ('order.created', 'other', 'x')").await;
    stage.wait_received(1).await;
    assert!(relay.terminate().await.success());
}
