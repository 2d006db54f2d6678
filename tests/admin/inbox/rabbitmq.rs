//! `outbox-relay inbox doctor --queue`: where a consumer's dead letters go, asked of RabbitMQ itself.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties, ExchangeKind};

use super::Consumer;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::until;

const WEEK_MS: i64 = 604_800_000;
const MONTH_MS: i64 = 2_592_000_000;

/// Arguments of a queue.
fn arguments<const N: usize>(settings: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in settings {
        table.insert(name.into(), value);
    }
    table
}

/// Dead letters go to this exchange, under this routing key.
fn dead_letters(exchange: &str, routing_key: &str) -> FieldTable {
    arguments([
        ("x-dead-letter-exchange", AMQPValue::LongString(exchange.into())),
        ("x-dead-letter-routing-key", AMQPValue::LongString(routing_key.into())),
    ])
}

/// Queues whose dead letters stay for a week, by a policy for a month, for ever, and nowhere.
async fn declare(broker: &Instance) {
    let connection = Connection::connect(broker.url(), ConnectionProperties::default()).await;
    let connection = connection.expect("RabbitMQ is there");
    let channel = connection.create_channel().await.expect("a channel");
    let (options, none) = (ExchangeDeclareOptions::default(), FieldTable::default);
    let exchange = channel.exchange_declare("dlx".into(), ExchangeKind::Fanout, options, none());
    exchange.await.expect("an exchange");
    for (name, arguments) in [
        ("short/dead", arguments([("x-message-ttl", AMQPValue::LongLongInt(WEEK_MS))])),
        ("long.dead", none()),
        ("ever.dead", none()),
        ("short", dead_letters("", "short/dead")),
        ("long", dead_letters("dlx", "any")),
        ("ever", dead_letters("", "ever.dead")),
        ("lost", dead_letters("nowhere", "any")),
        ("dropped", none()),
    ] {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(name.into(), options, arguments).await.expect("a queue");
    }
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind("long.dead".into(), "dlx".into(), "".into(), options, none());
    bound.await.expect("a binding");
    let policy = format!("{{\"message-ttl\": {MONTH_MS}}}");
    broker.rabbitmqctl(&["set_policy", "keep", "^long.dead$", &policy]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_asks_rabbitmq_how_long_it_keeps_dead_letters() {
    // GIVEN an inbox that remembers 14 days
    let consumer = Consumer::new().await;
    assert_eq!(consumer.say(&["maintain"]).await.0, 0);
    let broker = Instance::start(Kind::RabbitMq).await;
    declare(&broker).await;

    // WHEN the doctor is told what the consumer reads
    let management = broker.fact("MGMT_URL");
    let password = password(management);
    let ask = async |url: &str, queue: &str| {
        let asked = ["doctor", "--rabbitmq-management", url, "--queue", queue];
        let (code, text) = consumer.say(&asked).await;
        assert!(!text.contains(password), "{text}");
        (code, text)
    };

    // THEN
    for (queue, code, words) in [
        ("short", 0, "dead letters of short in short/dead"),
        ("long", 78, "again after 30.0 days"),
        ("ever", 78, "again at any time"),
        ("lost", 0, "leads to no queue"),
        ("dropped", 0, "it has no dead letter exchange"),
        ("none", 78, "there is no such queue"),
    ] {
        // A policy comes into force a moment after it was set.
        until(&format!("{queue}: {words}"), async || {
            let (found, text) = ask(management, queue).await;
            (found == code && text.contains(words)).then_some(())
        })
        .await;
    }
    let (code, text) = ask(&management.replace(password, "wr0ng-one"), "short").await;
    assert!(code == 78 && text.contains("the user or the password is refused"), "{code} {text}");
    assert!(!text.contains("wr0ng-one"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_cannot_be_asked_is_refused_without_showing_it() {
    let consumer = Consumer::new().await;
    let secured = "https://ann:hush-hush@mq.internal:15671";
    let asked = ["doctor", "--queue", "short", "--rabbitmq-management", secured];
    let (code, text) = consumer.say(&asked).await;
    assert!(code == 2 && text.contains("https is not spoken here"), "{text}");
    assert!(!text.contains("hush-hush"), "{text}");
    let (code, text) = consumer.say(&["doctor", "--queue", "short"]).await;
    assert!(code == 2 && text.contains("OUTBOX_RELAY_RABBITMQ_MANAGEMENT"), "{text}");
}

/// What stands between the user and the host.
fn password(url: &str) -> &str {
    let (user, _) = url.rsplit_once('@').expect("a url with a user");
    user.rsplit_once(':').expect("and a password").1
}
