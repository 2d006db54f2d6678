//! Queues, exchanges and topics that are deleted under way, or refuse.

use super::super::cell::Cell;
use super::{Fault, Part, Scene};
use crate::support::consumer::{KafkaDestination, QueueKind};
use crate::support::proxy::Network;

/// Messages that are written meanwhile.
const MEANWHILE: usize = 150;

pub(super) const FAULTS: &[Fault] = &[
    Fault::new(
        "queue-deleted",
        "the queue is deleted and declared again",
        &[Part::RabbitMq, Part::Relay],
        |cell| Box::pin(queue_deleted(cell)),
    )
    .refuses(),
    Fault::new(
        "exchange-deleted",
        "the exchange is deleted and declared again",
        &[Part::RabbitMq],
        |cell| Box::pin(exchange_deleted(cell)),
    )
    .refuses(),
    Fault::new(
        "queue-rejects",
        "the queue is full and rejects (nack)",
        &[Part::RabbitMq],
        |cell| Box::pin(queue_rejects(cell)),
    )
    .refuses(),
    Fault::new(
        "queue-rejects-strict",
        "the same with `order = \"strict\"`",
        &[Part::RabbitMq],
        |cell| Box::pin(queue_rejects(cell)),
    )
    .in_scene(Scene::Strict),
    Fault::new("topic-deleted", "the topic is deleted and created again", &[Part::Kafka], |cell| {
        Box::pin(topic_deleted(cell))
    })
    .refuses()
    .alone(),
];

/// Deleted while nothing is in it nor on its way into it, or what the broker confirms would be lost with it:
/// RabbitMQ confirms what it was about to put into a queue that is deleted.
async fn queue_deleted(cell: &Cell<'_>) {
    let queue = cell.stage.amqp();
    let leader = cell.leader().await;
    let Some(links) = cell.crew.links(&leader).await else { return };
    links.amqp.set(Network::BlackHole);
    for _ in 0..2 {
        cell.stage.consumers[0].1.drain().await;
    }
    cell.struck();
    queue.delete_empty_queue().await;
    links.amqp.set(Network::Up);
    cell.go_on(MEANWHILE).await;
    cell.nobody_is_blamed().await;
    queue.declare_queue(QueueKind::Classic, "#").await.expect("a queue can be declared");
    cell.mended();
}

async fn exchange_deleted(cell: &Cell<'_>) {
    let exchange = cell.stage.amqp();
    cell.struck();
    exchange.delete_exchange().await.expect("an exchange can be deleted");
    cell.go_on(MEANWHILE).await;
    cell.nobody_is_blamed().await;
    exchange.declare_exchange().await.expect("an exchange can be declared");
    exchange.declare_queue(QueueKind::Classic, "#").await.expect("a binding can be made");
    cell.mended();
}

/// A refusal of this kind is the message's own: attempts are charged, and end long before the limit.
async fn queue_rejects(cell: &Cell<'_>) {
    let (rabbitmq, queue) = (&cell.arena.rabbitmq, &cell.stage.amqp().queue);
    let policy = r#"{"max-length": 0, "overflow": "reject-publish"}"#;
    cell.struck();
    rabbitmq.rabbitmqctl(&["set_policy", "reject", queue, policy, "--apply-to", "queues"]).await;
    cell.go_on(MEANWHILE).await;
    rabbitmq.rabbitmqctl(&["clear_policy", "reject"]).await;
    cell.mended();
}

/// With a black hole before it until everything that the topic holds was read.
async fn topic_deleted(cell: &Cell<'_>) {
    let topic = cell.stage.kafka();
    let (_, consumer) = &cell.stage.consumers[1];
    cell.arena.kafka_link.set(Network::BlackHole);
    consumer.drain().await;
    cell.struck();
    topic.delete().await;
    cell.arena.kafka_link.set(Network::Up);
    cell.go_on(MEANWHILE).await;
    cell.nobody_is_blamed().await;
    KafkaDestination::create(&topic.brokers, &topic.topic, topic.partitions).await;
    cell.mended();
    consumer.begin_again();
}
