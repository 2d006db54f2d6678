//! A RabbitMQ consumer with manual acknowledgement.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use uuid::Uuid;

use super::{Content, Inbox, Received};
use crate::support::patience::until;
use crate::support::relay::RELAY_TAG;

/// The `app_id` of a mark, which is this consumer's own message.
const MARK: &str = "mark";
/// Deliveries recorded before one acknowledgement for all of them.
const ACK_ROWS_MAX: usize = 256;
/// From the connection to the first delivery that may come.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a lost broker is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// A durable exchange of type topic and one durable queue that takes everything of it.
#[derive(Debug, Clone)]
pub(crate) struct AmqpDestination {
    pub(crate) url: String,
    pub(crate) exchange: String,
    pub(crate) queue: String,
}

/// How the queue is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueKind {
    Classic,
    Quorum,
}

impl AmqpDestination {
    /// Declares `NAME` as exchange and queue, bound to each other for every routing key.
    pub(crate) async fn create(url: &str, name: &str, kind: QueueKind) -> Self {
        let destination = Self { url: url.into(), exchange: name.into(), queue: name.into() };
        let declared = async {
            destination.declare_exchange().await?;
            destination.declare_queue(kind, "#").await
        };
        if let Err(error) = declared.await {
            panic!("cannot declare {name} at RabbitMQ: {error}");
        }
        destination
    }

    /// The exchange alone: until a queue is bound, what is published there is unroutable.
    pub(crate) async fn declare_exchange(&self) -> lapin::Result<()> {
        let connection = connect(&self.url).await?;
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let channel = connection.create_channel().await?;
        let exchange = short(&self.exchange);
        channel
            .exchange_declare(exchange, ExchangeKind::Topic, options, FieldTable::default())
            .await?;
        connection.close(200, short("done")).await
    }

    /// The queue, bound to the exchange for the routing keys of `pattern`. A second call adds one.
    pub(crate) async fn declare_queue(&self, kind: QueueKind, pattern: &str) -> lapin::Result<()> {
        self.declare(kind, pattern, FieldTable::default()).await
    }

    /// A classic queue that nacks what does not fit into its `messages`, bound for everything.
    pub(crate) async fn declare_rejecting_queue(&self, messages: i64) -> lapin::Result<()> {
        self.declare_rejecting("x-max-length", messages).await
    }

    /// The same with a limit of bytes.
    pub(crate) async fn declare_queue_rejecting_beyond(&self, bytes: i64) -> lapin::Result<()> {
        self.declare_rejecting("x-max-length-bytes", bytes).await
    }

    async fn declare_rejecting(&self, limit: &str, value: i64) -> lapin::Result<()> {
        let mut arguments = FieldTable::default();
        arguments.insert(short(limit), AMQPValue::LongLongInt(value));
        arguments.insert(short("x-overflow"), AMQPValue::LongString("reject-publish".into()));
        self.declare(QueueKind::Classic, "#", arguments).await
    }

    /// A quorum queue, bound for everything; what its consumers reject goes to the queue that is returned.
    pub(crate) async fn declare_queue_with_dead_letters(&self) -> lapin::Result<Self> {
        let queue = format!("{}.dead", self.queue);
        let dead = Self { queue, ..self.clone() };
        // Bound to nothing that the relay publishes: the default exchange knows it by its name.
        dead.declare(QueueKind::Quorum, "", FieldTable::default()).await?;
        let mut arguments = FieldTable::default();
        let mut text = |name: &str, value: &str| {
            arguments.insert(short(name), AMQPValue::LongString(value.into()));
        };
        text("x-dead-letter-exchange", "");
        text("x-dead-letter-routing-key", &dead.queue);
        self.declare(QueueKind::Quorum, "#", arguments).await?;
        Ok(dead)
    }

    async fn declare(
        &self,
        kind: QueueKind,
        pattern: &str,
        mut arguments: FieldTable,
    ) -> lapin::Result<()> {
        let connection = connect(&self.url).await?;
        let channel = connection.create_channel().await?;
        let kind = match kind {
            QueueKind::Classic => "classic",
            QueueKind::Quorum => "quorum",
        };
        arguments.insert(short("x-queue-type"), AMQPValue::LongString(kind.into()));
        let (queue, exchange) = (short(&self.queue), short(&self.exchange));
        channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments).await?;
        let (pattern, options) = (short(pattern), QueueBindOptions::default());
        channel.queue_bind(queue, exchange, pattern, options, FieldTable::default()).await?;
        connection.close(200, short("done")).await
    }
}

/// What is done to a destination while it is in use.
impl AmqpDestination {
    /// Deletes the queue as soon as nothing is in it that its consumer has not been sent.
    pub(crate) async fn delete_empty_queue(&self) {
        until("the queue to be empty", async || {
            let connection = connect(&self.url).await.ok()?;
            let channel = connection.create_channel().await.ok()?;
            let options = QueueDeleteOptions { if_empty: true, ..Default::default() };
            channel.queue_delete(short(&self.queue), options).await.ok().map(|_| ())
        })
        .await;
    }

    /// Deletes the exchange; its bindings go with it.
    pub(crate) async fn delete_exchange(&self) -> lapin::Result<()> {
        let connection = connect(&self.url).await?;
        let channel = connection.create_channel().await?;
        channel.exchange_delete(short(&self.exchange), ExchangeDeleteOptions::default()).await?;
        connection.close(200, short("done")).await
    }
}

/// Reads for ever; a broker that goes away is tried again until it is back.
pub(super) async fn consume(destination: AmqpDestination, inbox: Arc<Inbox>) {
    loop {
        // What was received and not acknowledged comes again, marked as redelivered.
        let _ = consume_connection(&destination, &inbox).await;
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn consume_connection(destination: &AmqpDestination, inbox: &Inbox) -> lapin::Result<()> {
    // A broker that is just starting accepts connections that it never answers.
    let subscribed = tokio::time::timeout(SUBSCRIBE_TIMEOUT, subscribe(destination)).await;
    let Ok(subscribed) = subscribed else { return Ok(()) };
    let (_connection, channel, consumer) = subscribed?;
    let mut deliveries = consumer.ready_chunks(ACK_ROWS_MAX);
    while let Some(chunk) = deliveries.next().await {
        let mut last = None;
        for delivery in chunk {
            let delivery = delivery?;
            last = Some(delivery.delivery_tag);
            match mark_of(&delivery) {
                Some(mark) => inbox.record_mark(mark),
                None => inbox.record(received(delivery)),
            }
        }
        if let Some(last) = last {
            channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
        }
    }
    Ok(())
}

async fn subscribe(
    destination: &AmqpDestination,
) -> lapin::Result<(Connection, Channel, lapin::Consumer)> {
    let connection = connect(&destination.url).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(4096, BasicQosOptions::default()).await?;
    let (queue, options) = (short(&destination.queue), BasicConsumeOptions::default());
    let consumer = channel.basic_consume(queue, short(""), options, FieldTable::default()).await?;
    Ok((connection, channel, consumer))
}

/// Puts a mark at the end of the queue.
pub(super) async fn put_marks(destination: &AmqpDestination) -> HashSet<Uuid> {
    let mark = Uuid::now_v7();
    until("RabbitMQ to take a mark", async || {
        let put = tokio::time::timeout(SUBSCRIBE_TIMEOUT, put_mark(destination, mark));
        put.await.ok()?.ok()
    })
    .await;
    [mark].into()
}

async fn put_mark(destination: &AmqpDestination, mark: Uuid) -> lapin::Result<()> {
    let connection = connect(&destination.url).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(Default::default()).await?;
    let properties = BasicProperties::default()
        .with_app_id(short(MARK))
        .with_message_id(short(&mark.to_string()))
        .with_delivery_mode(2);
    let (queue, options) = (short(&destination.queue), BasicPublishOptions::default());
    channel.basic_publish(short(""), queue, options, &[], properties).await?.await?;
    connection.close(200, short("done")).await
}

fn mark_of(delivery: &Delivery) -> Option<Uuid> {
    let properties = &delivery.properties;
    let is_mark = properties.app_id().as_ref().is_some_and(|app| app.as_str() == MARK);
    let id = properties.message_id().as_ref().filter(|_| is_mark)?;
    Uuid::parse_str(id.as_str()).ok()
}

/// Undoes the wire format: application headers on one side, the relay's own on the other.
fn received(delivery: Delivery) -> Received {
    let properties = &delivery.properties;
    let text = |value: &Option<ShortString>| value.as_ref().map(|v| v.as_str().to_owned());
    let mut content = Content { kind: text(properties.kind()), ..Content::default() };
    let (mut row_id, mut resent, mut relay, mut null) = (None, None, None, false);
    for (name, value) in properties.headers().iter().flatten() {
        let value = header_text(value);
        match name.as_str() {
            "x-outbox-key" => content.key = value,
            "x-outbox-topic" => content.topic = value.unwrap_or_default(),
            "x-outbox-id" => row_id = value,
            "x-outbox-resent" => resent = value,
            RELAY_TAG => relay = value,
            "x-outbox-null" => null = value.as_deref() == Some("true"),
            name if name.starts_with("x-outbox-") => {}
            name => {
                content.headers.insert(name.to_owned(), value);
            }
        }
    }
    if let Some(content_type) = text(properties.content_type()) {
        content.headers.insert("content-type".into(), Some(content_type));
    }
    let message_id = text(properties.message_id());
    let redelivered = delivery.redelivered;
    content.payload = (!null || !delivery.data.is_empty()).then_some(delivery.data);
    Received { content, message_id, row_id, resent, relay, redelivered }
}

fn header_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        AMQPValue::LongLongInt(number) => Some(number.to_string()),
        AMQPValue::LongInt(number) => Some(number.to_string()),
        AMQPValue::Boolean(yes) => Some(yes.to_string()),
        AMQPValue::Void => None,
        // Not in the wire format: shown, so that the digest differs.
        other => Some(format!("{other:?}")),
    }
}

async fn connect(url: &str) -> lapin::Result<Connection> {
    let name = ConnectionProperties::default().with_connection_name("consumer".into());
    Connection::connect(url, name).await
}

fn short(text: &str) -> ShortString {
    ShortString::try_new(text).expect("names in tests are short")
}
