//! Kafka as the tests see it.

use std::collections::BTreeMap;
use std::time::Duration;

use outbox_relay::config::{KafkaConfig, KafkaFence, KafkaTimestamp, TlsConfig};
use outbox_relay::route::{Destination, RouteConfig, Template};
use outbox_relay::target::fence::FenceName;
use outbox_relay::target::kafka::KafkaTarget;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _, OwnedMessage};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{fence, unique};
use crate::support::patience::{PATIENCE, wait_for};
use crate::support::services::Services;

/// One topic.
pub(super) struct Kafka {
    pub(super) topic: String,
    partitions: i32,
}

impl Kafka {
    /// A topic with further settings (`max.message.bytes`).
    pub(super) async fn new(what: &str, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let kafka = Self { topic: unique(what), partitions };
        kafka.create(settings).await;
        kafka
    }

    /// A name that no topic has yet.
    pub(super) fn absent(what: &str) -> Self {
        Self { topic: unique(what), partitions: 1 }
    }

    pub(super) async fn create(&self, settings: &[(&str, &str)]) {
        let brokers = Services::kafka();
        create_at(&brokers, &self.topic, self.partitions, settings).await;
    }

    /// A target whose only route leads to the topic.
    pub(super) fn target(&self) -> KafkaTarget {
        target(config(), vec![route(&self.topic, vec![])])
    }

    /// The same, under a fence.
    pub(super) fn fenced(&self, fence: FenceName) -> KafkaTarget {
        let config = KafkaConfig { fence: KafkaFence::Transaction, ..config() };
        KafkaTarget::new(config, vec![route(&self.topic, vec![])], fence)
    }

    /// Everything in the topic, partition by partition, in order.
    pub(super) async fn read(&self) -> Vec<OwnedMessage> {
        let consumer: StreamConsumer = client(&Services::kafka())
            .set("group.id", &self.topic)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.message.max.bytes", "16777216")
            .create()
            .expect("a consumer");
        let mut assignment = TopicPartitionList::new();
        for partition in 0..self.partitions {
            let offset = Offset::Beginning;
            assignment.add_partition_offset(&self.topic, partition, offset).expect("an offset");
        }
        consumer.assign(&assignment).expect("an assignment");
        let (mut all, mut ends) = (vec![], 0);
        while ends < self.partitions {
            match wait_for("a record", consumer.recv()).await {
                Ok(message) => all.push(BorrowedMessage::detach(&message)),
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ends += 1,
                Err(error) => panic!("{error}"),
            }
        }
        all.sort_by_key(|message| (message.partition(), message.offset()));
        all
    }

    /// The rows in the topic, partition by partition, in order.
    pub(super) async fn rows(&self) -> Vec<i64> {
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
        let row = |message: &OwnedMessage| number(headers(message).get("x-outbox-id")?.as_deref()?);
        self.read().await.iter().map(|m| row(m).expect("the relay's header")).collect()
    }
}

/// Creates a topic at some broker.
pub(super) async fn create_at(
    brokers: &str,
    topic: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) {
    let admin: AdminClient<DefaultClientContext> =
        client(brokers).create().expect("an admin client");
    let mut topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        topic = topic.set(name, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let results = admin.create_topics([&topic], &options).await.expect("Kafka is there");
    results.into_iter().for_each(|result| assert!(result.is_ok(), "{result:?}"));
}

/// Headers as bytes; `None` = null.
pub(super) fn headers(message: &OwnedMessage) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    for header in message.headers().iter().flat_map(|headers| headers.iter()) {
        let twice = all.insert(header.key.to_owned(), header.value.map(<[u8]>::to_vec));
        assert_eq!(twice, None, "header {} comes twice", header.key);
    }
    all
}

pub(super) fn target(broker: KafkaConfig, routes: Vec<RouteConfig>) -> KafkaTarget {
    KafkaTarget::new(broker, routes, fence())
}

pub(super) fn route(topic: &str, headers: Vec<(String, Template)>) -> RouteConfig {
    RouteConfig {
        topic: "*".parse().unwrap(),
        kind: None,
        destination: Destination::Kafka { topic: topic.parse().unwrap(), headers },
    }
}

pub(super) fn config() -> KafkaConfig {
    KafkaConfig {
        timestamp: KafkaTimestamp::Sent,
        brokers: Services::kafka(),
        linger: Duration::from_millis(1),
        compression: "none".into(),
        fence: KafkaFence::Off,
        tls: TlsConfig::default(),
        properties: vec![],
        secret_properties: vec![],
        connect_timeout: Duration::from_secs(30),
    }
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}
