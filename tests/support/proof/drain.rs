//! When everything was sent, and when it was consumed.

use std::time::{Duration, Instant};

use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Connection, ConnectionProperties};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::rig::Rig;
use crate::support::consumer::{AmqpDestination, KafkaDestination};
use crate::support::patience::PATIENCE;

/// For one question to Kafka.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Each look costs the services more than [`LOOK_INTERVAL`](crate::support::patience::LOOK_INTERVAL) allows.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Before the relay has made its ledgers nothing is pending.
const UNSENT: &str = "\
SELECT CASE WHEN (SELECT count(*) FROM outbox.ledger) < 2 THEN -1
            ELSE (SELECT count(*) FROM outbox.message_state WHERE state NOT IN ('sent', 'dead', 'unrouted')) END";

/// What is still to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// For the relay, of both targets.
    pub(crate) unsent: i64,
    /// Ready in RabbitMQ; what a consumer has in hand is not among it.
    pub(crate) rabbitmq: u32,
    /// Behind the committed positions in Kafka.
    pub(crate) kafka: i64,
}

/// Waits until the relay has sent everything.
pub(crate) async fn wait_sent(rig: &Rig) {
    wait(rig, |left| left.unsent == 0).await;
}

/// Waits until everything was sent and nothing is left to be handed out.
pub(crate) async fn wait_consumed(rig: &Rig) {
    wait(rig, |left| *left == Left::default()).await;
}

/// # Panics
/// When nothing has moved for [`PATIENCE`].
async fn wait(rig: &Rig, done: impl Fn(&Left) -> bool) {
    let (mut last, mut moved) = (Left::default(), Instant::now());
    loop {
        let left = left(rig).await;
        if done(&left) {
            return;
        }
        if left != last {
            (last, moved) = (left, Instant::now());
        }
        assert!(moved.elapsed() < PATIENCE, "nothing moves any more: {left:?}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

pub(crate) async fn left(rig: &Rig) -> Left {
    let kafka = rig.kafka.clone();
    // The client blocks its thread.
    let kafka = tokio::task::spawn_blocking(move || lag(&kafka));
    let unsent = rig.requests.connect().await.count(UNSENT).await;
    let rabbitmq = ready(&rig.amqp).await.expect("RabbitMQ says how much is ready");
    Left { unsent, rabbitmq, kafka: kafka.await.expect("the lag was asked for") }
}

/// How many messages of a queue are ready.
async fn ready(queue: &AmqpDestination) -> lapin::Result<u32> {
    let connection = Connection::connect(&queue.url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
    let declared =
        channel.queue_declare(short(&queue.queue), options, FieldTable::default()).await?;
    let count = declared.message_count();
    connection.close(200, short("done")).await?;
    Ok(count)
}

fn lag(topic: &KafkaDestination) -> i64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &topic.brokers)
        .set("group.id", &topic.topic)
        .create()
        .expect("a consumer needs no broker to be made");
    let mut partitions = TopicPartitionList::new();
    for partition in 0..topic.partitions {
        partitions.add_partition(&topic.topic, partition);
    }
    let committed = consumer.committed_offsets(partitions, ANSWER_TIMEOUT);
    let committed = committed.expect("Kafka says what is committed");
    let lags = committed.elements().into_iter().map(|element| {
        let marks = consumer.fetch_watermarks(&topic.topic, element.partition(), ANSWER_TIMEOUT);
        let (low, high) = marks.expect("Kafka says where a partition ends");
        match element.offset() {
            Offset::Offset(offset) => high - offset,
            _ => high - low,
        }
    });
    lags.sum()
}

pub(crate) fn short(text: &str) -> ShortString {
    ShortString::try_new(text).expect("a test's names are short")
}
