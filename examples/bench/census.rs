//! Counts what stands at a destination message by message: how many, and how many different ones.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};

use crate::meter::Meter;
use crate::queue::{connect, short};
use crate::support::consumer::KafkaDestination;

/// A broker that hands out nothing for so long has nothing.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The message id: of the relay and of Debezium's router alike.
const ID_HEADER: &str = "id";

/// What was found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Census {
    pub(crate) messages: u64,
    pub(crate) distinct: u64,
}

impl Census {
    /// Reads everything that is there now.
    pub(crate) async fn take(meter: &Meter) -> Self {
        let messages = meter.messages().await;
        let ids = match meter {
            Meter::Kafka { topic, .. } => {
                tokio::task::block_in_place(|| kafka_ids(topic, messages))
            }
            Meter::Amqp { queue, .. } => amqp_ids(&queue.url, &queue.name, messages).await,
        };
        Self { messages, distinct: ids.len() as u64 }
    }

    pub(crate) fn duplicates(self) -> u64 {
        self.messages - self.distinct
    }
}

/// A consumer of all that stands in a topic.
pub(crate) fn read_from_the_beginning(topic: &KafkaDestination) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &topic.brokers)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer needs no broker to be made");
    consumer.assign(&topic.beginning()).expect("partitions can be assigned before they are known");
    consumer
}

fn kafka_ids(topic: &KafkaDestination, messages: u64) -> HashSet<Vec<u8>> {
    let consumer = read_from_the_beginning(topic);
    let mut ids = HashSet::new();
    for _ in 0..messages {
        let message = consumer.poll(SILENCE_MAX).expect("Kafka hands out what it has");
        let message = message.expect("Kafka stays");
        let headers = message.headers().expect("a message has headers");
        let id = headers.iter().find(|header| header.key == ID_HEADER);
        let id = id.and_then(|id| id.value).expect("a message has an id");
        ids.insert(id.to_vec());
    }
    ids
}

async fn amqp_ids(url: &str, queue: &str, messages: u64) -> HashSet<Vec<u8>> {
    let connection = connect(url).await;
    let channel = connection.create_channel().await.expect("RabbitMQ opens a channel");
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let deliveries =
        channel.basic_consume(short(queue), short(""), options, FieldTable::default()).await;
    let mut deliveries = deliveries.expect("RabbitMQ lets a queue be read");
    let mut ids = HashSet::new();
    for _ in 0..messages {
        let next = tokio::time::timeout(SILENCE_MAX, deliveries.next()).await;
        let delivery = next.ok().flatten().expect("RabbitMQ hands out what it has");
        let delivery = delivery.expect("RabbitMQ stays");
        let id = delivery.properties.message_id().as_ref().expect("a message has an id");
        ids.insert(id.as_str().as_bytes().to_vec());
    }
    ids
}
