//! How many messages stand at a destination, whoever brought them.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use uuid::Uuid;

use crate::queue::Queue;
use crate::rig::Rig;
use crate::support::consumer::KafkaDestination;
use crate::support::instance::Instance;
use crate::usage::Process;

/// Of every topic.
pub(crate) const PARTITIONS: i32 = 3;
/// A broker that answers later than this is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A queue or a topic that nobody reads.
pub(crate) enum Meter {
    Amqp { queue: Box<Queue>, broker: Process },
    Kafka { topic: KafkaDestination, consumer: BaseConsumer, broker: Process },
}

impl Meter {
    /// A new queue of this kind.
    pub(crate) async fn amqp(rig: &Rig, kind: crate::queue::Kind) -> Self {
        let queue = Box::new(Queue::create(rig.rabbitmq.url(), kind).await);
        Self::Amqp { queue, broker: rig.rabbitmq_process() }
    }

    /// A new topic.
    pub(crate) async fn kafka(rig: &Rig) -> Self {
        let name = format!("bench-{}", Uuid::now_v7().simple());
        let topic = KafkaDestination::create(rig.kafka.url(), &name, PARTITIONS).await;
        Self::of_topic(&rig.kafka, topic)
    }

    /// A new topic whose records carry the time at which the broker took them.
    pub(crate) async fn kafka_stamped(rig: &Rig) -> Self {
        let name = format!("bench-{}", Uuid::now_v7().simple());
        let settings = [("message.timestamp.type", "LogAppendTime")];
        let topic =
            KafkaDestination::create_with(rig.kafka.url(), &name, PARTITIONS, 1, &settings).await;
        Self::of_topic(&rig.kafka, topic)
    }

    /// A topic that is there.
    pub(crate) fn of_topic(kafka: &Instance, topic: KafkaDestination) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.url()).set("group.id", "bench");
        let consumer = config.create().expect("a consumer needs no broker to be made");
        let broker = Process(kafka.fact("PID").parse().expect("a process has a number"));
        Self::Kafka { topic, consumer, broker }
    }

    /// Its broker.
    pub(crate) fn broker(&self) -> Process {
        match self {
            Self::Amqp { broker, .. } | Self::Kafka { broker, .. } => *broker,
        }
    }

    /// How many messages it has now.
    pub(crate) async fn messages(&self) -> u64 {
        match self {
            Self::Amqp { queue, .. } => queue.messages().await,
            Self::Kafka { topic, consumer, .. } => {
                // librdkafka blocks its caller.
                tokio::task::block_in_place(|| {
                    (0..topic.partitions).map(|n| end_of(consumer, &topic.topic, n)).sum()
                })
            }
        }
    }

    /// Deletes it with everything in it.
    pub(crate) async fn delete(self) {
        match self {
            Self::Amqp { queue, .. } => queue.delete().await,
            Self::Kafka { topic, .. } => topic.delete().await,
        }
    }
}

fn end_of(consumer: &BaseConsumer, topic: &str, partition: i32) -> u64 {
    loop {
        if let Ok((_, end)) = consumer.fetch_watermarks(topic, partition, ANSWER_TIMEOUT) {
            return u64::try_from(end).unwrap_or(0);
        }
    }
}
