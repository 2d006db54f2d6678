//! What `check` says of the places where messages go: whether they are there, whether the user may
//! write to them, and whether somebody reads them.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};

use crate::support::consumer::KafkaDestination;
use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::until;
use crate::support::relay::{RelayConfig, command, quoted};
use crate::support::services::Services;
use crate::support::stage::unique;

/// Exit code and the lines of a target.
async fn check(config: &RelayConfig, target: &str, more: &[&str]) -> (i32, String) {
    let output = command(config, &[&["check"], more].concat()).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter(|line| line.contains(&format!("target {target}")));
    let code = output.status.code().expect("it ended by itself");
    (code, lines.map(|line| format!("{line}\n")).collect())
}

async fn declare(channel: &Channel, exchange: &str, kind: ExchangeKind, queue: &str, key: &str) {
    let none = FieldTable::default;
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(exchange.into(), kind, options, none()).await.expect("an exchange");
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.into(), options, none()).await.expect("a queue");
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none());
    bound.await.expect("a binding");
}

async fn ready_messages(channel: &Channel, queue: &str) -> u32 {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let found = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
    found.expect("it is there").message_count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_permission_missing_places_and_bindings_are_told_and_nothing_is_delivered() {
    // GIVEN a user who may write to some exchanges, and to one of them with some routing keys
    let broker = Instance::start(Kind::RabbitMq).await;
    let connection = Connection::connect(broker.url(), ConnectionProperties::default()).await;
    let connection = connection.expect("RabbitMQ is there");
    let channel = connection.create_channel().await.expect("a channel");
    declare(&channel, "open", ExchangeKind::Topic, "reader", "order.*").await;
    declare(&channel, "closed", ExchangeKind::Fanout, "other", "").await;
    broker.rabbitmqctl(&["add_user", "writer", "pw"]).await;
    let writable = "^(open|amq\\.default)$";
    broker.rabbitmqctl(&["set_permissions", "writer", "^outbox-relay", writable, "^$"]).await;
    let keys = "^(order|user)\\..*$";
    broker.rabbitmqctl(&["set_topic_permissions", "writer", "open", keys, "^$"]).await;

    // GIVEN routes and rows for all of it
    let database = Database::create().await;
    let session = database.connect().await;
    for topic in ["order.created", "user.created", "secret.created", "gone"] {
        session.run(&format!("INSERT INTO outbox.message (topic) VALUES ('{topic}')")).await;
    }
    let (_, address) = broker.url().split_once('@').expect("a url with a user");
    let route = "[{ topic = \"closed\", exchange = \"closed\" },
                  { topic = \"missing\", exchange = \"missing\" },
                  { topic = \"queue\", exchange = \"\", routing_key = \"reader\" },
                  { topic = \"lost\", exchange = \"\", routing_key = \"nobody\" },
                  { topic = \"gone\", exchange = \"{{ topic }}\" },
                  { topic = \"*\", exchange = \"open\", routing_key = \"{{ topic }}\" }]"
        .replace('\n', " ");
    let config = RelayConfig::new(&database.url_as(&database.create_relay().await))
        .set("target.amqp", "kind", quoted("amqp"))
        .set("target.amqp", "url", quoted(&format!("amqp://writer:pw@{address}")))
        .set("target.amqp", "route", route);

    // WHEN it is checked THEN each is told, a route's as a failure and a row's as a warning
    let (code, text) = check(&config, "amqp", &[]).await;
    assert_eq!(code, 78, "{text}");
    for (level, words) in [
        ("fail", "exchange \"missing\": 404 NOT_FOUND"),
        ("fail", "queue \"nobody\": 404 NOT_FOUND"),
        ("warn", "exchange \"gone\": 404 NOT_FOUND"),
        ("fail", "exchange \"closed\": 403 ACCESS_REFUSED"),
        ("warn", "exchange \"open\", routing key \"secret.created\": 403 ACCESS_REFUSED"),
        ("ok", "9 destinations looked at: 5 of routes, 4 of rows in the table"),
        ("ok", "bindings are not checked: that takes --rabbitmq-management"),
    ] {
        let line = text.lines().find(|line| line.contains(words));
        assert!(line.is_some_and(|line| line.starts_with(level)), "{level} {words}\n{text}");
    }
    for fine in ["order.created", "user.created", "\"reader\""] {
        assert!(!text.contains(fine), "{fine}\n{text}");
    }
    // AND nothing was delivered by it
    assert_eq!(ready_messages(&channel, "reader").await, 0);
    assert_eq!(ready_messages(&channel, "other").await, 0);

    // WHEN RabbitMQ's management may be asked THEN it says who reads
    let management = ["--rabbitmq-management", broker.fact("MGMT_URL")];
    let unbound = "exchange \"open\", routing key \"user.created\": it leads to no queue";
    let text = until("the bindings to be known", async || {
        let (_, text) = check(&config, "amqp", &management).await;
        text.contains(unbound).then_some(text)
    })
    .await;
    assert!(!text.contains("order.created") && !text.contains("bindings are not"), "{text}");
    let password = broker.url().split(['@', ':']).nth(2).expect("a password");
    assert!(!text.contains(password), "{text}");
    // AND what is wrong with the address is a failure without it
    let wrong = ["--rabbitmq-management", "ftp://ann:hush-hush@mq"];
    let output = command(&config, &[&["check"], &wrong[..]].concat()).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && !text.contains("hush-hush"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_topics_that_rows_in_the_table_go_to_are_looked_for() {
    // GIVEN a topic that is there, and rows for it and for another
    let kafka = KafkaDestination::create(&Services::kafka(), &unique(), 1).await;
    let missing = unique();
    let database = Database::create().await;
    let session = database.connect().await;
    for topic in [&kafka.topic, &missing] {
        session.run(&format!("INSERT INTO outbox.message (topic) VALUES ('{topic}')")).await;
    }
    let config = RelayConfig::new(&database.url_as(&database.create_relay().await))
        .set("target.kafka", "kind", quoted("kafka"))
        .set("target.kafka", "brokers", quoted(&kafka.brokers))
        .set("target.kafka", "route", "[{ topic = \"*\", kafka_topic = \"{{ topic }}\" }]");
    // WHEN
    let (code, text) = check(&config, "kafka", &[]).await;
    // THEN the other is told, as a warning, and how many were looked at
    assert_eq!(code, 0, "{text}");
    let line = text.lines().find(|line| line.contains(&missing)).expect("it is told");
    assert!(line.starts_with("warn") && line.contains("rows in the table go there"), "{text}");
    assert!(!text.contains(&format!("topic {:?}", kafka.topic)), "{text}");
    let words = "2 topics looked at: 0 of routes, 2 of rows in the table";
    assert!(text.contains(words) && text.contains("may write to them is not checked"), "{text}");
}
