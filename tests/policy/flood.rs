//! Thousands of destinations in trouble at once: the good rows beside them flow.

use futures_util::future::try_join_all;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties, ExchangeKind};

use crate::support::checker::check;
use crate::support::consumer::{AmqpDestination, Consumer, Destination, QueueKind};
use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::until;
use crate::support::progress::{assert_nobody_blamed, wait_settled};
use crate::support::relay::RelayProcess;
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::{Stage, unique};
use crate::support::writer::{Batch, committed};

const BAD: usize = 10_000;
const DELETED: usize = 1_000;
const GOOD: usize = 400;
/// In flight to RabbitMQ, and so the duplicates of one end of the channel.
const WINDOW: usize = 200;

/// The topic is the exchange, but for orders.
async fn by_topic() -> Stage {
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let route = format!(
        "[{{ topic = \"order.*\", exchange = \"{}\" }}, {{ topic = \"*\", exchange = \"{{{{ topic }}}}\" }}]",
        stage.exchange()
    );
    stage.set("target.amqp", "route", route).set("target.amqp", "window_messages_max", WINDOW)
}

async fn write_bad(session: &Session, prefix: &str) {
    write(session, prefix, 1, BAD).await;
}

/// A row for each of the places `from` to `to`, in one transaction.
async fn write(session: &Session, prefix: &str, from: usize, to: usize) {
    let insert = format!(
        "INSERT INTO outbox.message (topic, payload)
         SELECT '{prefix}.' || n, 'x' FROM generate_series({from}, {to}) AS n"
    );
    session.run(&insert).await;
}

/// Good rows, a few at a time, beside whatever goes on.
async fn write_good(session: &Session) {
    for _ in 0..GOOD / 10 {
        Batch::orders(10).write(session).await;
    }
}

async fn wait_parked(session: &Session, rows: usize) {
    until("the bad rows to be parked", async || {
        let parked = "SELECT count(*) FROM outbox.retry WHERE class = 'parked'";
        (session.count(parked).await == rows as i64).then_some(())
    })
    .await;
}

/// Deliveries beyond the first of each good row, and ends of the main channel.
async fn duplicates(stage: &Stage, session: &Session, relay: &RelayProcess) -> (usize, usize) {
    let mut journal = committed(session).await;
    // The bad ones have no key.
    journal.retain(|row| row.key.is_some());
    stage.assert_exact(&journal).await;
    let deliveries = stage.consumers[0].1.deliveries();
    let ends = relay.log().matches("ended the channel").count();
    (deliveries.len() - journal.len(), ends)
}

/// GIVEN ten thousand rows for as many missing exchanges in one transaction WHEN good rows are written
/// beside them THEN the good ones arrive once, the others are parked, and no channel has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_ten_thousand_missing_exchanges_end_no_channel() {
    let stage = by_topic().await;
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    write_bad(&session, &unique()).await;
    write_good(&session).await;
    stage.wait_received(GOOD).await;
    wait_parked(&session, BAD).await;
    assert_nobody_blamed(&session).await;
    assert_eq!(duplicates(&stage, &session, &relay).await, (0, 0), "{}", relay.log());
    assert!(relay.terminate().await.success());
}

/// GIVEN a thousand exchanges that are known WHEN all are deleted at once under traffic THEN the
/// channel ends once or twice, and no more is sent again than was in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_thousand_deleted_exchanges_end_the_channel_once() {
    let stage = by_topic().await;
    let session = stage.session().await;
    let prefix = unique();
    let connection = Connection::connect(&Services::amqp(), ConnectionProperties::default()).await;
    let connection = connection.expect("RabbitMQ is there");
    let channel = connection.create_channel().await.expect("a channel");
    // What no queue is bound for goes to the queue of the good ones.
    let mut arguments = FieldTable::default();
    let fallback = AMQPValue::LongString(stage.exchange().into());
    arguments.insert("alternate-exchange".into(), fallback);
    let names: Vec<_> = (1..=DELETED).map(|n| format!("{prefix}.{n}")).collect();
    for part in names.chunks(500) {
        let declared = part.iter().map(|name| {
            let (kind, options) = (ExchangeKind::Topic, ExchangeDeclareOptions::default());
            channel.exchange_declare(name.as_str().into(), kind, options, arguments.clone())
        });
        try_join_all(declared).await.expect("exchanges can be declared");
    }
    let relay = RelayProcess::start(&stage.config).await;
    for last in (100..=DELETED).step_by(100) {
        write(&session, &prefix, last - 99, last).await;
        stage.wait_received(last).await;
    }
    wait_settled(&session, 1).await;

    for part in names.chunks(500) {
        let options = ExchangeDeleteOptions::default();
        let deleted =
            part.iter().map(|name| channel.exchange_delete(name.as_str().into(), options));
        try_join_all(deleted).await.expect("exchanges can be deleted");
    }
    write(&session, &prefix, 1, DELETED).await;
    write_good(&session).await;
    stage.wait_received(GOOD + DELETED).await;
    wait_parked(&session, DELETED).await;
    assert_nobody_blamed(&session).await;
    let log = relay.log();
    let ends = log.matches("ended the channel").count();
    assert!((1..=3).contains(&ends), "{ends} ends:\n{log}");
    assert!(relay.terminate().await.success());
}

/// GIVEN a user with topic permissions WHEN ten thousand rows have forbidden routing keys THEN each of
/// those is parked by itself, permitted ones arrive (one that nothing was sent to before as well), and no
/// more is sent again than was in flight at the few ends of the channel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_ten_thousand_forbidden_keys_park_themselves_alone() {
    let broker = Instance::start(Kind::RabbitMq).await;
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(broker.url(), QueueKind::Classic).await;
    broker.rabbitmqctl(&["add_user", "publisher", "pw"]).await;
    broker.rabbitmqctl(&["set_permissions", "publisher", ".*", ".*", ".*"]).await;
    let exchange = stage.exchange().to_owned();
    let permit = ["set_topic_permissions", "publisher", &exchange, "^order", ".*"];
    broker.rabbitmqctl(&permit).await;
    let (_, address) = broker.url().split_once('@').expect("a url with a user");
    let url = format!("\"amqp://publisher:pw@{address}\"");
    let stage = stage.set("target.amqp", "url", url);
    let stage = stage.set("target.amqp", "window_messages_max", WINDOW);
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    write_bad(&session, "no").await;
    write_good(&session).await;
    let new = Batch { topic: "order.new", ..Batch::orders(10) };
    new.write(&session).await;
    stage.wait_received(GOOD + 10).await;
    wait_parked(&session, BAD).await;
    assert_nobody_blamed(&session).await;
    let (duplicates, ends) = duplicates(&stage, &session, &relay).await;
    assert!((1..=3).contains(&ends), "{ends} ends:\n{}", relay.log());
    assert!(duplicates <= ends * WINDOW, "{duplicates} duplicates");
    assert!(relay.terminate().await.success());
}

/// GIVEN a queue at its limit that refuses, beside one that does not WHEN rows are written and the
/// limit stands for a while THEN no attempt is charged, nothing is dead, the other queue gets few
/// copies, and all arrive once there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_queue_at_its_limit_buries_nothing() {
    const ROWS: usize = 300;
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let stage = stage
        .set("target.amqp", "attempts_max", 2)
        .set("target.amqp", "retry_backoff_min", "\"50ms\"")
        .set("target.amqp", "window_messages_max", WINDOW);
    let session = stage.session().await;
    let name = unique();
    let full = AmqpDestination { queue: name, ..stage.amqp().clone() };
    full.declare_rejecting_queue(5).await.expect("a queue can be declared");
    Batch::orders(ROWS).write(&session).await;
    let relay = RelayProcess::start(&stage.config).await;
    let reason = "SELECT count(*) FROM outbox.retry
                  WHERE class = 'parked' AND reason LIKE '%length limit%'";
    until("rows to be parked", async || (session.count(reason).await > 0).then_some(())).await;
    // Probes go on, and are refused: more often than there are attempts.
    let sibling = &stage.consumers[0].1;
    until("probes", async || (sibling.received() >= ROWS.min(WINDOW)).then_some(())).await;
    assert_nobody_blamed(&session).await;
    assert_eq!(session.count("SELECT count(*) FROM outbox.dead").await, 0, "{}", relay.log());

    let there = Consumer::start(Destination::Amqp(full));
    there.wait_received(ROWS).await;
    wait_settled(&session, 1).await;
    assert_nobody_blamed(&session).await;
    assert!(relay.terminate().await.success());
    there.drain().await;
    let journal = committed(&session).await;
    check(&journal, &there.deliveries()).assert_exact("full");
    stage.assert_exact(&journal).await;
}

/// GIVEN a row that is larger than its queue's limit of bytes WHEN other rows of the same routing key
/// come behind it THEN it waits, and they arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_row_that_fits_into_no_queue_delays_nobody() {
    const ROWS: usize = 50;
    let name = unique();
    let queue = AmqpDestination { url: Services::amqp(), exchange: name.clone(), queue: name };
    queue.declare_exchange().await.expect("an exchange can be declared");
    queue.declare_queue_rejecting_beyond(10_000).await.expect("a queue can be declared");
    let mut stage = Stage::new(Database::create().await).await;
    stage.config = stage.config.amqp("amqp", &queue);
    let stage = stage.set("target.amqp", "retry_backoff_min", "\"50ms\"").set(
        "target.amqp",
        "retry_backoff_max",
        "\"200ms\"",
    );
    let session = stage.session().await;
    let write = async |bytes: usize, rows: usize| {
        let insert = format!(
            "INSERT INTO outbox.message (topic, payload)
             SELECT 'order.placed', convert_to(repeat('x', {bytes}), 'UTF8')
             FROM generate_series(1, {rows})"
        );
        session.run(&insert).await;
    };
    write(20_000, 1).await;
    let there = Consumer::start(Destination::Amqp(queue));
    let relay = RelayProcess::start(&stage.config).await;
    // Only then: what is in flight with it arrives in any case.
    wait_parked(&session, 1).await;
    write(1, ROWS).await;
    there.wait_received(ROWS).await;
    wait_parked(&session, 1).await;
    assert_nobody_blamed(&session).await;
    assert!(relay.terminate().await.success());
}
