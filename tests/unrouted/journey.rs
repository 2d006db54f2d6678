//! Routes that change, and change back.

use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::relay::{RelayConfig, RelayProcess, command};
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::Stage;

/// A target that takes the topics of `glob`.
fn takes(stage: &Stage, glob: &str) -> RelayConfig {
    let topic = &stage.kafka().topic;
    let route = format!("[{{ topic = \"{glob}\", kafka_topic = \"{topic}\" }}]");
    stage.config.clone().set("target.kafka", "route", route)
}

async fn place(session: &Session, orders: usize) {
    let sql = "SELECT outbox.publish('order.placed', NULL, 'x') FROM generate_series(1, $1::int)";
    session.execute(sql, &[&i32::try_from(orders).unwrap()]).await.unwrap();
}

async fn wait_state(session: &Session, state: &str, rows: i64) {
    until(&format!("{rows} messages to be {state}"), async || {
        let sql = format!("SELECT count(*) FROM outbox.message_state WHERE state = '{state}'");
        (session.count(&sql).await == rows).then_some(())
    })
    .await;
}

async fn replay(config: &RelayConfig, more: &[&str]) -> String {
    let arguments = [&["replay", "--target", "kafka", "--unrouted"], more].concat();
    let output = command(config, &arguments).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// GIVEN a relay with routes A, one with B, and one with A again, and holes of the lives before that are
/// filled late WHEN all have run THEN nothing that was sent is called unrouted, everything that was not
/// sent is, and `replay --unrouted` sends exactly that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_sent_is_called_unrouted_when_routes_change_and_change_back() {
    let stage = Stage::new(Database::create().await).await.with_kafka(&Services::kafka()).await;
    let (a, b) = (takes(&stage, "order.*"), takes(&stage, "stock.*"));
    let session = stage.session().await;
    let (first, second, third) =
        (stage.session().await, stage.session().await, stage.session().await);

    // A: three orders are sent, two more are written by transactions that stay open.
    let relay = RelayProcess::start(&a).await;
    place(&session, 2).await;
    for open in [&first, &second] {
        open.run("BEGIN").await;
        place(open, 1).await;
    }
    place(&session, 1).await;
    wait_state(&session, "sent", 3).await;
    assert!(relay.terminate().await.success());

    // B: five orders are settled unsent, one of them in the middle stays open, and one of A comes.
    let relay = RelayProcess::start(&b).await;
    place(&session, 2).await;
    third.run("BEGIN").await;
    place(&third, 1).await;
    place(&session, 3).await;
    wait_state(&session, "unrouted", 5).await;
    relay.wait_logged("no route of this target takes the topic").await;
    first.run("COMMIT").await;
    wait_state(&session, "unrouted", 6).await;
    assert_eq!(session.count("SELECT count(*) FROM outbox.unrouted").await, 1);
    assert!(relay.terminate().await.success());

    // A again: it says what it could send, and sends what comes late.
    let relay = RelayProcess::start(&a).await;
    relay.wait_logged("are taken by the routes of today").await;
    relay.wait_logged("rows=6").await;
    second.run("COMMIT").await;
    third.run("COMMIT").await;
    place(&session, 1).await;
    stage.wait_received(6).await;
    wait_state(&session, "sent", 6).await;
    wait_state(&session, "unrouted", 6).await;

    // Exactly those are replayed, and once.
    assert!(replay(&a, &["--dry-run"]).await.starts_with("6 messages would be sent"));
    assert!(replay(&a, &["--topic", "stock.*"]).await.starts_with("0 messages are sent"));
    assert!(replay(&b, &[]).await.contains("6 left alone, taken by no route"));
    assert!(replay(&a, &["--topic", "order.*"]).await.starts_with("6 messages are sent"));
    stage.wait_received(12).await;
    wait_state(&session, "sent", 12).await;
    assert!(replay(&a, &[]).await.starts_with("0 messages are sent"));
    assert!(relay.terminate().await.success());
    // AND each has arrived once
    for (_, consumer) in &stage.consumers {
        consumer.drain().await;
        assert_eq!(consumer.deliveries().len(), 12);
    }
}

/// GIVEN a target that takes one topic of ten WHEN all are written, again and again THEN each of the
/// nine is recorded once, with one mark, and the relay warns of none that another target takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_takes_one_topic_of_ten_records_nine_once() {
    let stage = Stage::new(Database::create().await).await.with_kafka(&Services::kafka()).await;
    let stage =
        stage.with_amqp(&Services::amqp(), crate::support::consumer::QueueKind::Classic).await;
    let config = takes(&stage, "topic-0");
    let session = stage.session().await;
    let relay = RelayProcess::start(&config).await;
    let write = "INSERT INTO outbox.message (topic) SELECT 'topic-' || n % 10 FROM generate_series(1, 100) AS n";
    session.run(write).await;
    wait_state(&session, "unrouted", 90).await;
    wait_state(&session, "sent", 110).await;
    let recorded =
        "SELECT string_agg(xmin::text || ctid::text, ' ' ORDER BY topic) FROM outbox.unrouted";
    let before: String = session.query_one(recorded, &[]).await.unwrap().get(0);
    assert_eq!(session.count("SELECT count(*) FROM outbox.unrouted").await, 9);

    session.run(write).await;
    wait_state(&session, "unrouted", 180).await;
    wait_state(&session, "sent", 220).await;
    let after: String = session.query_one(recorded, &[]).await.unwrap().get(0);
    assert_eq!(after, before, "a row was written again");
    let status = command(&config, &["status", "--sample", "0s"]).await;
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(!status.contains("no target takes") && !status.contains("unrouted"), "{status}");
    assert!(!relay.log().contains("no target takes"));
    assert!(relay.terminate().await.success());
}
