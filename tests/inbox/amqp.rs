//! Deliveries of a real RabbitMQ.

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use outbox_inbox::{Cause, HandlerError, Inbox, Outcome, Park, Settle};

use crate::process::{PAYMENTS, payments};
use crate::support::database::Database;
use crate::support::id;
use crate::support::patience::wait_for;
use crate::support::services::Services;

/// A quorum queue with a dead letter queue behind it.
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) dead: String,
    _connection: Connection,
    channel: Channel,
}

impl Queue {
    pub(crate) async fn declare() -> Self {
        let connection =
            Connection::connect(&Services::amqp(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let name = format!("inbox-{}", id::new());
        let dead = format!("{name}.dead");
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
        arguments.insert(
            "x-dead-letter-routing-key".into(),
            AMQPValue::LongString(dead.as_str().into()),
        );
        let options = QueueDeclareOptions::durable();
        channel.queue_declare(short(&name), options, arguments).await.unwrap();
        channel.queue_declare(short(&dead), options, FieldTable::default()).await.unwrap();
        Self { name, dead, _connection: connection, channel }
    }

    pub(crate) async fn publish(&self, properties: BasicProperties, payload: &[u8]) {
        let options = BasicPublishOptions::default();
        let publish =
            self.channel.basic_publish("".into(), short(&self.name), options, payload, properties);
        publish.await.unwrap().await.unwrap();
    }

    /// How many messages wait in a queue.
    pub(crate) async fn depth(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = self.channel.queue_declare(short(queue), options, FieldTable::default()).await;
        found.unwrap().message_count()
    }
}

/// A queue, and a consumer of either.
struct Stage {
    queue: Queue,
    deliveries: Consumer,
    dead: Consumer,
}

impl Stage {
    async fn new() -> Self {
        let queue = Queue::declare().await;
        queue.channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
        let deliveries = consume(&queue.channel, &queue.name).await;
        let dead = consume(&queue.channel, &queue.dead).await;
        Self { queue, deliveries, dead }
    }

    async fn publish(&self, properties: BasicProperties, payload: &[u8]) {
        self.queue.publish(properties, payload).await;
    }
}

async fn consume(channel: &Channel, queue: &str) -> Consumer {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(short(queue), "".into(), options, FieldTable::default()).await.unwrap()
}

async fn next(consumer: &mut Consumer) -> Delivery {
    wait_for("a delivery", consumer.next()).await.unwrap().unwrap()
}

fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap()
}

pub(crate) fn properties(id: &str, headers: &[(&str, &str)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(short(name), AMQPValue::LongString((*value).into()));
    }
    BasicProperties::default()
        .with_message_id(short(id))
        .with_type(short("PaymentRequested"))
        .with_headers(table)
}

#[tokio::test]
async fn a_delivery_is_settled_by_what_became_of_it() {
    let mut session = Database::create().await.connect().await;
    session.run(PAYMENTS).await;
    let inbox = Inbox::builder("billing").attempts_max(2).build().unwrap();
    let mut stage = Stage::new().await;
    let pay = async |transaction: &tokio_postgres::Transaction<'_>| {
        transaction.execute("INSERT INTO payment VALUES ('p', 10)", &[]).await?;
        Ok(())
    };
    let queue = stage.queue.name.clone();

    // GIVEN a message that comes from a relay WHEN its consumer dies after COMMIT and before the ack
    let id = id::new();
    let headers = [("x-outbox-topic", "payments"), ("x-outbox-key", "k")];
    stage.publish(properties(&id, &headers), b"10").await;
    let delivery = next(&mut stage.deliveries).await;
    let message = outbox_inbox::lapin::message(&delivery, &queue);
    assert_eq!((message.kind(), message.key()), (Some("PaymentRequested"), Some(&b"k"[..])));
    let outcome = inbox.process(&mut session, &message, pay).await.unwrap();
    assert_eq!(outcome, Outcome::Done { value: (), attempt: 1 });
    outbox_inbox::lapin::settle(&delivery, Settle::Release).await.unwrap();
    // THEN it comes again, and is a duplicate whose cause is known
    let delivery = next(&mut stage.deliveries).await;
    let message = outbox_inbox::lapin::message(&delivery, &queue);
    let outcome = inbox.process(&mut session, &message, pay).await.unwrap();
    assert_eq!(outcome, Outcome::DuplicateIgnored { cause: Cause::Redelivered });
    outbox_inbox::lapin::settle(&delivery, outcome.settle()).await.unwrap();

    // WHEN the relay sends it again THEN it is one too
    let resent = [headers[0], headers[1], ("x-outbox-resent", "crash")];
    stage.publish(properties(&id, &resent), b"10").await;
    let delivery = next(&mut stage.deliveries).await;
    let message = outbox_inbox::lapin::message(&delivery, &queue);
    let outcome = inbox.process(&mut session, &message, pay).await.unwrap();
    assert_eq!(outcome, Outcome::DuplicateIgnored { cause: Cause::RelayRetry });
    outbox_inbox::lapin::settle(&delivery, outcome.settle()).await.unwrap();

    // WHEN another message has the same id THEN it is found among the dead letters
    stage.publish(properties(&id, &headers), b"9999").await;
    let delivery = next(&mut stage.deliveries).await;
    let message = outbox_inbox::lapin::message(&delivery, &queue);
    let outcome = inbox.process(&mut session, &message, pay).await.unwrap();
    assert_eq!(outcome, Outcome::Parked { why: Park::Mismatch, attempts: 1 });
    outbox_inbox::lapin::settle(&delivery, outcome.settle()).await.unwrap();
    let dead = next(&mut stage.dead).await;
    assert_eq!(dead.data, b"9999");
    outbox_inbox::lapin::settle(&dead, Settle::Ack).await.unwrap();
    assert_eq!(payments(&session).await, 1);
}

#[tokio::test]
async fn a_poison_message_is_tried_as_often_as_it_may_and_is_dead_then() {
    let mut session = Database::create().await.connect().await;
    let inbox = Inbox::builder("billing").attempts_max(3).build().unwrap();
    let mut stage = Stage::new().await;
    let (queue, id) = (stage.queue.name.clone(), id::new());
    stage.publish(properties(&id, &[]), b"poison").await;
    // GIVEN a handler that always fails WHEN each outcome is settled
    for attempt in 1..=3 {
        let delivery = next(&mut stage.deliveries).await;
        let message = outbox_inbox::lapin::message(&delivery, &queue);
        let failing = async |_: &tokio_postgres::Transaction<'_>| {
            Err::<(), _>(HandlerError::transient("poison"))
        };
        let outcome = inbox.process(&mut session, &message, failing).await.unwrap();
        match attempt {
            3 => assert_eq!(outcome, Outcome::Parked { why: Park::Attempts, attempts: 3 }),
            n => assert!(matches!(outcome, Outcome::Retry { attempt, .. } if attempt == n)),
        }
        outbox_inbox::lapin::settle(&delivery, outcome.settle()).await.unwrap();
    }
    // THEN it is among the dead letters
    let dead = next(&mut stage.dead).await;
    assert_eq!(dead.properties.message_id().as_ref().unwrap().as_str(), id);
    outbox_inbox::lapin::settle(&dead, Settle::Ack).await.unwrap();
}
