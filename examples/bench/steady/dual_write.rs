//! Nobody in between: the writer sends each row itself once its commit has returned. No relay can be sooner, and a
//! crash between the two loses the message: that is what an outbox is for.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};

use crate::limit::PRODUCER_PROPERTIES;
use crate::meter::Meter;
use crate::queue::{connect, short};

/// What the writer sends with.
pub(crate) enum Sender {
    Kafka {
        producer: ThreadedProducer<DefaultProducerContext>,
        topic: String,
    },
    Amqp {
        channel: Box<Channel>,
        queue: String,
        /// Lives as long as its channel.
        _connection: Box<Connection>,
    },
}

impl Sender {
    /// To where the meter looks.
    pub(super) async fn to(meter: &Meter) -> Self {
        match meter {
            Meter::Kafka { topic, .. } => {
                let mut config = ClientConfig::new();
                config.set("bootstrap.servers", &topic.brokers);
                for (name, value) in PRODUCER_PROPERTIES {
                    config.set(name, value);
                }
                let producer = config.create().expect("the properties are right");
                Self::Kafka { producer, topic: topic.topic.clone() }
            }
            Meter::Amqp { queue, .. } => {
                let connection = connect(&queue.url).await;
                let channel = connection.create_channel().await.expect("RabbitMQ opens channels");
                let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
                confirms.expect("RabbitMQ confirms");
                Self::Amqp {
                    channel: Box::new(channel),
                    queue: queue.name.clone(),
                    _connection: Box::new(connection),
                }
            }
        }
    }

    /// Sends one row, and does not wait for its confirm.
    pub(super) async fn send(&self, key: &str, payload: &[u8]) {
        match self {
            Self::Kafka { producer, topic } => {
                let record = BaseRecord::to(topic).key(key).payload(payload);
                let sent = producer.send(record).map_err(|(error, _)| error);
                sent.expect("librdkafka's queue has room");
            }
            Self::Amqp { channel, queue, .. } => {
                let options = BasicPublishOptions { mandatory: true, ..Default::default() };
                let properties = BasicProperties::default().with_delivery_mode(2);
                let sent =
                    channel.basic_publish(short(""), short(queue), options, payload, properties);
                drop(sent.await.expect("RabbitMQ stays"));
            }
        }
    }
}
