//! A row that cannot be read is given up with its reason; the rows before and behind it arrive.

use crate::source::unreadable::damage;
use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::relay::{RelayProcess, command};
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::Stage;

async fn wait_dead(session: &Session, count: i64) {
    until("the rows to be dead", async || {
        (session.count("SELECT count(*) FROM outbox.dead").await == count).then_some(())
    })
    .await;
}

async fn dead_list(stage: &Stage) -> String {
    let output = command(&stage.config, &["dead", "list"]).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_invalid_text_in_an_sql_ascii_database_stops_one_row() {
    // GIVEN an SQL_ASCII database, with one row whose key is not UTF-8
    let stage = Stage::new(Database::create_encoded("SQL_ASCII").await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let session = stage.session().await;
    session
        .run(
            "INSERT INTO outbox.message (topic, key, payload)
             SELECT 'order.placed', CASE WHEN n = 50 THEN bad ELSE 'k' END, convert_to('m' || n, 'UTF8')
             FROM generate_series(1, 100) AS n, convert_from('\\xe4', 'SQL_ASCII') AS bad",
        )
        .await;
    // WHEN a relay runs THEN the others arrive, and it is dead with its payload
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(99).await;
    wait_dead(&session, 1).await;
    let kept = "SELECT count(*) FROM outbox.dead WHERE id = 50 AND payload = 'm50'
                AND reason LIKE '%SQLSTATE 22021%'";
    assert_eq!(session.count(kept).await, 1);
    // AND `dead list` shows it, beside one that can be read
    session
        .run(
            "INSERT INTO outbox.dead (id, created_at, message_id, attempts, target, class, reason, topic)
             SELECT 1, created_at, message_id, 1, 'amqp', 'refused', 'by hand', topic
             FROM outbox.message WHERE id = 1",
        )
        .await;
    let text = dead_list(&stage).await;
    assert!(text.contains("by hand") && text.contains("the row cannot be read"), "{text}");
    assert!(text.contains('\u{fffd}'), "the key is shown as far as it can be: {text}");
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_damaged_payload_stops_one_row() {
    // GIVEN a row whose stored payload is damaged: it cannot even be copied into `dead`
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let session = stage.session().await;
    session.run("ALTER TABLE outbox.message ALTER payload SET STORAGE EXTERNAL").await;
    session
        .run(
            "INSERT INTO outbox.message (topic, key, payload)
             SELECT 'order.placed', 'k', decode(repeat('ab', 3000), 'hex') FROM generate_series(1, 100)",
        )
        .await;
    damage(&session, "outbox.message", 50).await;
    // WHEN / THEN
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(99).await;
    stage.wait_settled().await;
    let bare = "SELECT count(*) FROM outbox.dead WHERE id = 50 AND payload IS NULL
                AND topic = 'order.placed' AND reason LIKE '%SQLSTATE XX001%'";
    assert_eq!(session.count(bare).await, 1);
    assert!(dead_list(&stage).await.contains("the row cannot be read"));
    assert!(relay.terminate().await.success());
}
