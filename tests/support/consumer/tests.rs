//! The consumers read the wire format as its table has it: messages put together by hand here.

use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Connection};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use uuid::Uuid;

use super::{AmqpDestination, Consumer, Content, Destination, KafkaDestination, QueueKind};
use crate::support::patience::PATIENCE;
use crate::support::services::Services;
use crate::support::stage::unique;

fn content(payload: Option<&[u8]>) -> Content {
    let headers = [
        ("content-type", Some("application/json")),
        ("näme", Some("wért ☃")),
        ("number", Some("17")),
        ("nested", Some(r#"{"list":[1,"two"]}"#)),
        ("nothing", None),
    ];
    Content {
        topic: "order.placed".into(),
        key: Some(String::new()),
        kind: Some("Order".into()),
        payload: payload.map(<[u8]>::to_vec),
        headers: headers.map(|(n, v)| (n.to_owned(), v.map(str::to_owned))).into(),
    }
}

async fn assert_received(destination: Destination, id: Uuid, content: &Content) {
    let consumer = Consumer::start(destination);
    consumer.drain().await;
    let deliveries = consumer.deliveries();
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].message_id, Some(id));
    assert_eq!(deliveries[0].row_id, Some(7));
    assert_eq!(deliveries[0].resent.as_deref(), Some("retry"));
    assert_eq!(deliveries[0].digest, content.digest());
}

fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqp_reads_the_wire_format() {
    for kind in [QueueKind::Classic, QueueKind::Quorum] {
        for payload in [Some(&b"{}"[..]), Some(b""), None] {
            let destination = AmqpDestination::create(&Services::amqp(), &unique(), kind).await;
            let (id, content) = (Uuid::now_v7(), content(payload));
            let mut table = FieldTable::default();
            let mut text = |name: &str, value: &str| {
                table.insert(short(name), AMQPValue::LongString(value.into()));
            };
            text("x-outbox-key", "");
            text("x-outbox-topic", "order.placed");
            text("x-outbox-resent", "retry");
            text("x-outbox-created-at", "2026-01-01T00:00:00.000001Z");
            text("näme", "wért ☃");
            text("number", "17");
            text("nested", r#"{"list": [1, "two"]}"#);
            table.insert(short("x-outbox-id"), AMQPValue::LongLongInt(7));
            table.insert(short("nothing"), AMQPValue::Void);
            if payload.is_none() {
                table.insert(short("x-outbox-null"), AMQPValue::Boolean(true));
            }
            let properties = BasicProperties::default()
                .with_message_id(short(&id.to_string()))
                .with_type(short("Order"))
                .with_content_type(short("application/json"))
                .with_headers(table);
            let connection = Connection::connect(&destination.url, Default::default());
            let connection = connection.await.unwrap();
            let channel = connection.create_channel().await.unwrap();
            channel.confirm_select(Default::default()).await.unwrap();
            let (exchange, options) =
                (short(&destination.exchange), BasicPublishOptions::default());
            let body = payload.unwrap_or_default();
            let confirm = channel.basic_publish(exchange, short("any"), options, body, properties);
            confirm.await.unwrap().await.unwrap();
            assert_received(Destination::Amqp(destination), id, &content).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_reads_the_wire_format() {
    for payload in [Some(&b"{}"[..]), Some(b""), None] {
        let destination = KafkaDestination::create(&Services::kafka(), &unique(), 3).await;
        let (id, content) = (Uuid::now_v7(), content(payload));
        let text = id.to_string();
        let mut headers = OwnedHeaders::new();
        for (key, value) in [
            ("id", Some(text.as_str())),
            ("type", Some("Order")),
            ("x-outbox-id", Some("7")),
            ("x-outbox-topic", Some("order.placed")),
            ("x-outbox-resent", Some("retry")),
            ("content-type", Some("application/json")),
            ("näme", Some("wért ☃")),
            ("number", Some("17")),
            ("nested", Some(r#"{"list": [1, "two"]}"#)),
            ("nothing", None),
        ] {
            headers = headers.insert(Header { key, value });
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", Services::kafka());
        let producer: ThreadedProducer<_> = config.create().unwrap();
        let record = BaseRecord::to(&destination.topic).key("").headers(headers);
        let record = match payload {
            Some(payload) => record.payload(payload),
            None => record,
        };
        producer.send(record).map_err(|(error, _)| error).unwrap();
        tokio::task::spawn_blocking(move || producer.flush(PATIENCE)).await.unwrap().unwrap();
        assert_received(Destination::Kafka(destination), id, &content).await;
    }
}
