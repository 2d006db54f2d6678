//! Queues of RabbitMQ that a run makes for itself.

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties};
use uuid::Uuid;

/// How a queue is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Classic,
    Quorum,
    Stream,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }
}

/// A durable queue, reached through the default exchange.
pub(crate) struct Queue {
    pub(crate) url: String,
    pub(crate) name: String,
    channel: Channel,
    /// Ends with it.
    _connection: Connection,
}

impl Queue {
    pub(crate) async fn create(url: &str, kind: Kind) -> Self {
        let connection = connect(url).await;
        let channel = connection.create_channel().await.expect("RabbitMQ opens a channel");
        let name = format!("bench-{}-{}", kind.word(), Uuid::now_v7().simple());
        let mut arguments = FieldTable::default();
        arguments.insert(short("x-queue-type"), AMQPValue::LongString(kind.word().into()));
        let declared =
            channel.queue_declare(short(&name), QueueDeclareOptions::durable(), arguments).await;
        declared.expect("RabbitMQ declares a queue");
        Self { url: url.into(), name, channel, _connection: connection }
    }

    /// Messages that stand in it.
    pub(crate) async fn messages(&self) -> u64 {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let declared =
            self.channel.queue_declare(short(&self.name), options, FieldTable::default()).await;
        declared.expect("the queue is there").message_count().into()
    }

    /// Deletes it with everything in it.
    pub(crate) async fn delete(self) {
        let deleted = self.channel.queue_delete(short(&self.name), QueueDeleteOptions::default());
        deleted.await.expect("RabbitMQ deletes a queue");
    }
}

/// A connection of the bench's own.
pub(crate) async fn connect(url: &str) -> Connection {
    let properties = ConnectionProperties::default().with_connection_name("bench".into());
    Connection::connect(url, properties).await.expect("RabbitMQ takes connections")
}

/// The names of a bench are short.
pub(crate) fn short(text: &str) -> ShortString {
    ShortString::try_new(text).expect("the names of a bench are short")
}
