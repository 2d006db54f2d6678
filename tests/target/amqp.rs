//! RabbitMQ as the tests see it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use outbox_relay::config::{AmqpConfig, AmqpFence, TlsConfig};
use outbox_relay::route::{Destination, RouteConfig, Template};
use outbox_relay::target::amqp::AmqpTarget;

use super::row::WINDOW;
use super::{fence, unique};
use crate::support::patience::wait_for;
use crate::support::services::Services;

/// One queue, and a channel to look into it.
pub(super) struct Rabbit {
    pub(super) exchange: String,
    pub(super) queue: String,
    pub(super) channel: Channel,
    _connection: Connection,
}

impl Rabbit {
    /// A topic exchange and a queue which is bound to it for `good.#`: `classic`, `quorum`, or
    /// `transient`, which stores nothing and so confirms at once.
    pub(super) async fn new(what: &str, queue_type: &str) -> Self {
        let url = Services::amqp();
        let connection = Connection::connect(&url, ConnectionProperties::default()).await;
        let connection = connection.expect("RabbitMQ is there");
        let channel = connection.create_channel().await.expect("a channel");
        let (exchange, queue) = (unique(what), unique(what));
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let none = FieldTable::default;
        let kind = ExchangeKind::Topic;
        channel
            .exchange_declare(exchange.as_str().into(), kind, durable, none())
            .await
            .expect("an exchange");
        let rabbit = Self { exchange, queue, channel, _connection: connection };
        let mut arguments = FieldTable::default();
        let options = match queue_type {
            "transient" => QueueDeclareOptions { exclusive: true, ..Default::default() },
            _ => QueueDeclareOptions::durable(),
        };
        if options.durable {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString(queue_type.into()));
        }
        rabbit.declare_queue(options, arguments).await;
        rabbit.bind("good.#").await;
        rabbit
    }

    pub(super) async fn declare_queue(&self, options: QueueDeclareOptions, arguments: FieldTable) {
        let queue = self.queue.as_str().into();
        self.channel.queue_declare(queue, options, arguments).await.expect("a queue");
    }

    pub(super) async fn bind(&self, pattern: &str) {
        let (queue, exchange) = (self.queue.as_str().into(), self.exchange.as_str().into());
        let options = QueueBindOptions::default();
        self.channel
            .queue_bind(queue, exchange, pattern.into(), options, FieldTable::default())
            .await
            .expect("a binding");
    }

    /// A target whose only route leads to the exchange, with the topic as routing key.
    pub(super) fn target(&self) -> AmqpTarget {
        self.target_with(&self.exchange, vec![])
    }

    pub(super) fn target_with(
        &self,
        exchange: &str,
        headers: Vec<(String, Template)>,
    ) -> AmqpTarget {
        target(config(), vec![route(exchange, headers)])
    }

    /// Takes everything out of the queue, in order.
    pub(super) async fn drain(&self) -> Vec<Delivery> {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let (queue, none) = (self.queue.as_str(), FieldTable::default);
        let declared = self.channel.queue_declare(queue.into(), passive, none()).await;
        let ready = declared.expect("the queue is there").message_count();
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = self.channel.basic_consume(queue.into(), "".into(), options, none()).await;
        let all = consumer.expect("a consumer").take(ready as usize).try_collect();
        wait_for("deliveries", all).await.expect("the channel is open")
    }

    /// The rows in the queue, in order.
    pub(super) async fn rows(&self) -> Vec<i64> {
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
        let row = |delivery: &Delivery| number(headers(delivery).get("x-outbox-id")?.as_deref()?);
        let deliveries = self.drain().await;
        deliveries.iter().map(|d| row(d).expect("the relay's header")).collect()
    }
}

/// Headers as bytes; `None` = void.
pub(super) fn headers(delivery: &Delivery) -> BTreeMap<String, Option<Vec<u8>>> {
    let bytes = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => Some(text.as_bytes().to_vec()),
        AMQPValue::Void => None,
        other => panic!("not a type of the wire format: {other:?}"),
    };
    let table = delivery.properties.headers().iter().flatten();
    table.map(|(name, value)| (name.to_string(), bytes(value))).collect()
}

pub(super) fn target(broker: AmqpConfig, routes: Vec<RouteConfig>) -> AmqpTarget {
    AmqpTarget::new(broker, routes, WINDOW, fence())
}

pub(super) fn route(exchange: &str, headers: Vec<(String, Template)>) -> RouteConfig {
    RouteConfig {
        topic: "*".parse().unwrap(),
        kind: None,
        destination: Destination::Amqp {
            exchange: exchange.parse().unwrap(),
            routing_key: "{{ topic }}".parse().unwrap(),
            headers,
            mandatory: true,
        },
    }
}

/// The broker of the tests; the password stands beside the url, as it does after loading.
pub(super) fn config() -> AmqpConfig {
    let mut uri: lapin::uri::AMQPUri = Services::amqp().parse().unwrap();
    let password = std::mem::take(&mut uri.authority.userinfo.password);
    AmqpConfig {
        fence: AmqpFence::ExclusiveQueue,
        url: uri.to_string(),
        password: Some(password.into()),
        tls: TlsConfig::default(),
        heartbeat: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(30),
    }
}
