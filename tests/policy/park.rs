//! A destination that is missing: its rows wait without blame, everything else flows.

use crate::support::checker::{Committed, check};
use crate::support::consumer::{
    AmqpDestination, Consumer, Destination, KafkaDestination, QueueKind,
};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::progress::{assert_nobody_blamed, wait_settled};
use crate::support::relay::RelayProcess;
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::{Stage, unique};
use crate::support::writer::{Batch, committed};

const GOOD: usize = 3_000;
const PARKED: usize = 600;

/// Orders to where they belong, and stock to a place that is not there, in turn.
async fn write(session: &Session) {
    for _ in 0..3 {
        Batch::orders(GOOD / 3).write(session).await;
        let stock = Batch {
            topic: "stock.moved",
            key_prefix: "stock",
            keys: 20,
            rows: PARKED / 3,
            ..Batch::orders(0)
        };
        stock.write(session).await;
    }
}

/// A target whose orders go to one destination and whose stock goes to another.
fn route(stage: Stage, name: &str, orders: &str, stock: &str) -> Stage {
    let to = |topic: &str, there: &str| match name {
        "amqp" => format!(
            "{{ topic = \"{topic}\", exchange = \"{there}\", routing_key = \"{{{{ topic }}}}\" }}"
        ),
        _ => format!("{{ topic = \"{topic}\", kafka_topic = \"{there}\" }}"),
    };
    let routes = format!("[{}, {}]", to("stock.*", stock), to("*", orders));
    stage.set(&format!("target.{name}"), "route", routes).set(
        &format!("target.{name}"),
        "retry_backoff_min",
        "\"50ms\"",
    )
}

async fn wait_parked(session: &Session, rows: usize) {
    // Per key, the head is parked and the others wait behind it.
    let waiting = "SELECT count(*) FROM outbox.retry WHERE class IN ('parked', 'held')";
    until("the rows of the missing destination to be parked", async || {
        (session.count(waiting).await == rows as i64).then_some(())
    })
    .await;
}

/// GIVEN a destination that is missing WHEN rows for it and for others are written, and the relay is
/// killed meanwhile THEN the others arrive, nobody is blamed, and everything arrives once it is there.
async fn a_missing_destination(stage: Stage, missing: Destination, create: impl AsyncFnOnce()) {
    let session = stage.session().await;
    write(&session).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(GOOD).await;
    wait_parked(&session, PARKED).await;
    assert_nobody_blamed(&session).await;
    let log = relay.log();
    let ended = log.matches("ended the channel").count();
    assert!(ended < 40, "{ended} channels ended for {PARKED} rows:\n{log}");

    // A new life has to find out by itself, and by few rows.
    relay.kill().await;
    write(&session).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(2 * GOOD).await;
    wait_parked(&session, 2 * PARKED).await;
    assert_nobody_blamed(&session).await;

    create().await;
    let there = Consumer::start(missing);
    there.wait_received(2 * PARKED).await;
    wait_settled(&session, 1).await;
    assert!(relay.terminate().await.success());
    let journal = committed(&session).await;
    let (stock, orders): (Vec<Committed>, Vec<Committed>) =
        journal.into_iter().partition(|row| row.is_of("stock"));
    stage.assert_exact(&orders).await;
    there.drain().await;
    check(&stock, &there.deliveries()).assert_exact("stock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_missing_exchange_delays_nobody_else() {
    let url = Services::amqp();
    let stage = Stage::new(Database::create().await).await;
    let orders = AmqpDestination::create(&url, &unique(), QueueKind::Classic).await;
    let stage = stage.with("amqp", Destination::Amqp(orders.clone()));
    let name = unique();
    let missing = AmqpDestination { url, exchange: name.clone(), queue: name.clone() };
    let stage = route(stage, "amqp", &orders.exchange, &name);
    a_missing_destination(stage, Destination::Amqp(missing.clone()), async || {
        missing.declare_exchange().await.expect("an exchange can be declared");
        // Now it is there, and nothing is bound to it: the same, for another reason.
        missing.declare_queue(QueueKind::Classic, "#").await.expect("a queue can be declared");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_missing_topic_delays_nobody_else() {
    let brokers = Services::kafka();
    let stage = Stage::new(Database::create().await).await;
    let orders = KafkaDestination::create(&brokers, &unique(), 3).await;
    let stage = stage.with("kafka", Destination::Kafka(orders.clone()));
    let topic = unique();
    let missing =
        KafkaDestination { brokers: brokers.clone(), topic: topic.clone(), partitions: 3 };
    let stage = route(stage, "kafka", &orders.topic, &topic);
    a_missing_destination(stage, Destination::Kafka(missing), async || {
        KafkaDestination::create(&brokers, &topic, 3).await;
    })
    .await;
}

/// GIVEN a trigger that drops what is set aside WHEN a row has to wait THEN it is not settled, and the
/// reason names the trigger's table; without the trigger it waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_drops_rows_settles_nothing() {
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let orders = stage.exchange().to_owned();
    let stage = route(stage, "amqp", &orders, &unique());
    let session = stage.session().await;
    let trigger = "CREATE FUNCTION public.drop_row() RETURNS trigger LANGUAGE plpgsql
                       AS 'BEGIN RETURN NULL; END';
                   CREATE TRIGGER drops BEFORE INSERT ON outbox.retry
                       FOR EACH ROW EXECUTE FUNCTION public.drop_row()";
    session.run(trigger).await;
    session.run("INSERT INTO outbox.message (topic) VALUES ('stock.moved')").await;
    let relay = RelayProcess::start(&stage.config).await;
    relay.wait_logged("a trigger on outbox.retry or outbox.dead drops rows").await;
    let settled = "SELECT count(*) FROM outbox.ledger WHERE settled @> 1::bigint";
    assert_eq!(session.count(settled).await, 0, "{}", relay.log());
    session.run("DROP TRIGGER drops ON outbox.retry").await;
    wait_parked(&session, 1).await;
    assert!(relay.terminate().await.success());
}
