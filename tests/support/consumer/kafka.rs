//! A Kafka consumer that is assigned every partition of one topic.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use uuid::Uuid;

use super::{Content, Inbox, Received};
use crate::support::patience::{PATIENCE, until};
use crate::support::relay::RELAY_TAG;

/// The header of a mark, which is this consumer's own message.
const MARK: &str = "mark";

/// One topic.
#[derive(Debug, Clone)]
pub(crate) struct KafkaDestination {
    pub(crate) brokers: String,
    pub(crate) topic: String,
    pub(crate) partitions: i32,
}

impl KafkaDestination {
    /// Creates the topic and waits until it can be used.
    pub(crate) async fn create(brokers: &str, topic: &str, partitions: i32) -> Self {
        Self::create_with(brokers, topic, partitions, 1, &[]).await
    }

    /// With `copies` of each partition, and settings of its own.
    pub(crate) async fn create_with(
        brokers: &str,
        topic: &str,
        partitions: i32,
        copies: i32,
        settings: &[(&str, &str)],
    ) -> Self {
        let admin = admin(brokers);
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(copies));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        until("Kafka to create a topic", async || {
            let results = admin.create_topics([&new], &options).await.ok()?;
            match results.into_iter().next()? {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Some(()),
                Err((_, _)) => None,
            }
        })
        .await;
        Self { brokers: brokers.into(), topic: topic.into(), partitions }
    }

    /// Deletes the topic with everything in it.
    pub(crate) async fn delete(&self) {
        let (admin, options) = (admin(&self.brokers), AdminOptions::new());
        until("Kafka to delete a topic", async || {
            let results = admin.delete_topics(&[&self.topic], &options).await.ok()?;
            match results.into_iter().next()? {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => Some(()),
                Err((_, _)) => None,
            }
        })
        .await;
    }
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    client(brokers).create().expect("an admin client needs no broker to be made")
}

impl KafkaDestination {
    /// Sets the topic's limit for a batch, and thereby for a message.
    pub(crate) async fn set_max_message_bytes(&self, bytes: usize) {
        self.alter("max.message.bytes", &bytes.to_string()).await;
    }

    /// Changes one of its settings.
    pub(crate) async fn alter(&self, setting: &str, value: &str) {
        let admin = admin(&self.brokers);
        let topic = ResourceSpecifier::Topic(&self.topic);
        let config = AlterConfig::new(topic).set(setting, value);
        let results = admin.alter_configs([&config], &AdminOptions::new()).await;
        let result = results.expect("Kafka answers").remove(0);
        result.expect("a topic's setting can be changed");
    }
}

impl KafkaDestination {
    /// All of its partitions, from the first message on.
    pub(crate) fn beginning(&self) -> TopicPartitionList {
        let mut partitions = TopicPartitionList::new();
        for partition in 0..self.partitions {
            partitions
                .add_partition_offset(&self.topic, partition, Offset::Beginning)
                .expect("the beginning is an offset");
        }
        partitions
    }
}

/// A consumer that has heard nothing for so long may never again: where a broker that hung comes back, and for a
/// moment the cluster knows of no broker, librdkafka 2.12 lets go of all it had, the configured ones among them.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Reads for ever; librdkafka itself waits for a broker that went away.
pub(super) async fn consume(destination: KafkaDestination, inbox: Arc<Inbox>) {
    let mut consumer = assigned(&destination);
    loop {
        let Ok(received) = tokio::time::timeout(SILENCE_MAX, consumer.recv()).await else {
            // What it shows again is not new to the inbox.
            consumer = assigned(&destination);
            continue;
        };
        // An error is an event about the connection: it comes back, and so do we.
        let Ok(message) = received else { continue };
        // A broker that died may send its consumers back: the record is in the log once all the same.
        if !inbox.is_new(message.partition(), message.offset()) {
            continue;
        }
        let mut received = Received {
            content: Content {
                key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
                payload: message.payload().map(<[u8]>::to_vec),
                ..Content::default()
            },
            message_id: None,
            row_id: None,
            resent: None,
            relay: None,
            redelivered: false,
        };
        let mut mark = None;
        for header in message.headers().iter().flat_map(|headers| headers.iter()) {
            let value = header.value.map(|value| String::from_utf8_lossy(value).into_owned());
            match header.key {
                MARK => mark = value.and_then(|id| Uuid::parse_str(&id).ok()),
                "id" => received.message_id = value,
                "type" => received.content.kind = value,
                "x-outbox-topic" => received.content.topic = value.unwrap_or_default(),
                "x-outbox-id" => received.row_id = value,
                RELAY_TAG => received.relay = value,
                "x-outbox-resent" => received.resent = value,
                name if name.starts_with("x-outbox-") => {}
                name => {
                    received.content.headers.insert(name.to_owned(), value);
                }
            }
        }
        match mark {
            Some(mark) => inbox.record_mark(mark),
            None => inbox.record(received),
        }
    }
}

/// A consumer of all there is.
fn assigned(destination: &KafkaDestination) -> StreamConsumer {
    let consumer: StreamConsumer = client(&destination.brokers)
        .set("group.id", format!("consumer-{}", destination.topic))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50")
        .create()
        .expect("a consumer needs no broker to be made");
    consumer
        .assign(&destination.beginning())
        .expect("partitions can be assigned before they are known");
    consumer
}

/// Puts a mark at the end of every partition.
pub(super) async fn put_marks(destination: &KafkaDestination) -> HashSet<Uuid> {
    let destination = destination.clone();
    // Flushing blocks its thread.
    let put = tokio::task::spawn_blocking(move || {
        let producer: ThreadedProducer<_> =
            client(&destination.brokers).create().expect("a producer needs no broker to be made");
        let mut marks = HashSet::new();
        for partition in 0..destination.partitions {
            let mark = Uuid::now_v7();
            let text = mark.to_string();
            let headers = OwnedHeaders::new().insert(Header { key: MARK, value: Some(&text) });
            let record = BaseRecord::<(), ()>::to(&destination.topic);
            producer
                .send(record.partition(partition).headers(headers))
                .expect("a new producer's queue has room");
            marks.insert(mark);
        }
        producer.flush(PATIENCE).expect("Kafka takes the marks");
        marks
    });
    put.await.expect("the marks were put")
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        // A restarted broker is found again soon.
        .set("reconnect.backoff.max.ms", "500")
        .set("topic.metadata.refresh.interval.ms", Duration::from_secs(1).as_millis().to_string());
    config
}
