//! An exchange that returns a mandatory message and delivers it later (x-delayed-message).

use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};

use crate::support::consumer::{AmqpDestination, Consumer, Destination, QueueKind};
use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::until;
use crate::support::progress::{assert_nobody_blamed, wait_settled};
use crate::support::relay::{RelayProcess, command};
use crate::support::session::Session;
use crate::support::stage::{Stage, unique};

const EXCHANGE_TYPE: &str = include_str!("delaying_exchange.erl");

/// Loads the exchange type, and declares an exchange of it with a queue.
async fn delaying_exchange(broker: &Instance) -> AmqpDestination {
    let source = EXCHANGE_TYPE.replace('\\', "\\\\").replace('"', "\\\"");
    let load = format!(
        "File = filename:join(rabbit_mnesia:dir(), \"delaying_exchange.erl\"),
         ok = file:write_file(File, <<\"{source}\">>),
         {{ok, Module, Binary}} = compile:file(File, [binary]),
         {{module, Module}} = code:load_binary(Module, File, Binary),
         rabbit_registry:register(exchange, <<\"x-delayed-message\">>, Module)."
    );
    broker.rabbitmqctl(&["eval", &load]).await;
    let name = unique();
    let url = broker.url().to_owned();
    let destination = AmqpDestination { url, exchange: name.clone(), queue: name };
    let connection = Connection::connect(broker.url(), ConnectionProperties::default()).await;
    let connection = connection.expect("RabbitMQ is there");
    let channel = connection.create_channel().await.expect("a channel");
    let kind = ExchangeKind::Custom("x-delayed-message".into());
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let name = destination.exchange.as_str();
    let declared = channel.exchange_declare(name.into(), kind, options, FieldTable::default());
    declared.await.expect("an exchange can be declared");
    destination.declare_queue(QueueKind::Classic, "").await.expect("a queue can be declared");
    destination
}

async fn publish_delayed(session: &Session, topic: &str) {
    session
        .run(&format!("SELECT outbox.publish('{topic}', NULL, '1'::text, '{{\"x-delay\": 100}}')"))
        .await;
}

/// GIVEN an exchange that returns what it delivers later WHEN rows with a delay are sent there THEN each
/// is delivered once and refused once, with the remedy; and with `mandatory = false` rows arrive once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_message_is_not_sent_again_and_again() {
    let broker = Instance::start(Kind::RabbitMq).await;
    let destination = delaying_exchange(&broker).await;
    let exchange = destination.exchange.clone();
    let mut stage = Stage::new(Database::create().await).await;
    stage.config = stage.config.amqp("amqp", &destination);
    // A destination that was probed would be probed soon.
    let stage = stage
        .set("target.amqp", "retry_backoff_min", "\"20ms\"")
        .set("target.amqp", "retry_backoff_max", "\"50ms\"")
        .set("target.amqp", "outage_backoff_max", "\"50ms\"");
    let consumer = Consumer::start(Destination::Amqp(destination));
    let session = stage.session().await;
    let mut relay = RelayProcess::start(&stage.config).await;
    let wait_parked = async |rows: i64| {
        let parked = "SELECT count(*) FROM outbox.retry
                      WHERE class = 'parked' AND reason LIKE '%mandatory = false%'";
        until("rows to be parked", async || (session.count(parked).await == rows).then_some(()))
            .await;
    };
    publish_delayed(&session, "first").await;
    consumer.wait_received(1).await;
    wait_parked(1).await;
    // By now the exchange is known: what comes next is refused without being sent.
    publish_delayed(&session, "second").await;
    wait_parked(2).await;
    // What has no delay passes, and shows that the relay went on.
    session.run("SELECT outbox.publish('plain', NULL, '1'::text)").await;
    consumer.wait_received(2).await;
    assert_nobody_blamed(&session).await;
    let output = command(&stage.config, &["hold", "list"]).await;
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(list.contains("mandatory = false"), "{list}");
    relay.signal("TERM").await;
    assert!(relay.wait_exit().await.success());
    assert!(relay.log().contains("nothing pending, 2 in retry"), "{}", relay.log());
    assert_eq!(consumer.deliveries().len(), 2);

    let route = format!("[{{ topic = \"*\", exchange = \"{exchange}\", mandatory = false }}]");
    let stage = stage.set("target.amqp", "route", route);
    let relay = RelayProcess::start(&stage.config).await;
    publish_delayed(&session, "third").await;
    wait_settled(&session, 1).await;
    // The first one has two copies: it was delivered when it was refused.
    let copies = async || (consumer.deliveries().len() >= 5).then_some(());
    until("every copy to arrive", copies).await;
    assert!(relay.terminate().await.success());
    consumer.drain().await;
    assert_eq!(consumer.deliveries().len(), 5);
}
