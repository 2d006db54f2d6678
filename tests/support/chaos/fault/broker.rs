//! Brokers that die, hang, restart, or take nothing more.

use super::super::cell::Cell;
use super::{Fault, Part};
use crate::support::instance::Instance;

/// What a relay logs when a broker has gone.
const NOTICED: &str = "the broker is not available";
/// Messages that are written meanwhile.
const MEANWHILE: usize = 200;

pub(super) const FAULTS: &[Fault] = &[
    Fault::new("rabbitmq-killed", "kill -9 of RabbitMQ", &[Part::RabbitMq], |cell| {
        Box::pin(killed(cell, &cell.arena.rabbitmq))
    }),
    Fault::new(
        "rabbitmq-restarts",
        "RabbitMQ restarts while it is published to",
        &[Part::RabbitMq],
        |cell| Box::pin(restarts(cell, &cell.arena.rabbitmq)),
    ),
    Fault::new("rabbitmq-hangs", "SIGSTOP and SIGCONT of RabbitMQ", &[Part::RabbitMq], |cell| {
        Box::pin(hangs(cell, &cell.arena.rabbitmq))
    }),
    Fault::new(
        "rabbitmq-memory-alarm",
        "RabbitMQ's memory alarm blocks publishers",
        &[Part::RabbitMq],
        |cell| {
            let (alarm, end) = (["0.0001"].as_slice(), ["absolute", "1GB"].as_slice());
            Box::pin(alarmed(cell, "set_vm_memory_high_watermark", alarm, end))
        },
    ),
    Fault::new(
        "rabbitmq-disk-alarm",
        "RabbitMQ's disk alarm blocks publishers",
        &[Part::RabbitMq],
        |cell| {
            let (alarm, end) = (["100000GB"].as_slice(), ["50MB"].as_slice());
            Box::pin(alarmed(cell, "set_disk_free_limit", alarm, end))
        },
    ),
    Fault::new("kafka-killed", "kill -9 of Kafka", &[Part::Kafka], |cell| {
        Box::pin(killed(cell, &cell.arena.kafka))
    }),
    Fault::new(
        "kafka-restarts",
        "Kafka restarts while it is published to",
        &[Part::Kafka],
        |cell| Box::pin(restarts(cell, &cell.arena.kafka)),
    ),
    Fault::new("kafka-hangs", "SIGSTOP and SIGCONT of Kafka", &[Part::Kafka], |cell| {
        Box::pin(hangs(cell, &cell.arena.kafka))
    }),
];

async fn killed(cell: &Cell<'_>, broker: &Instance) {
    cell.struck();
    broker.kill().await;
    cell.go_on(MEANWHILE).await;
    cell.nobody_is_blamed().await;
    broker.start_again().await;
    cell.mended();
    consumer_goes_on(cell);
}

async fn restarts(cell: &Cell<'_>, broker: &Instance) {
    cell.struck();
    broker.stop().await;
    broker.start_again().await;
    cell.mended();
    consumer_goes_on(cell);
    cell.nobody_is_blamed().await;
}

/// librdkafka may leave a consumer standing whose broker came back. It is not under test.
fn consumer_goes_on(cell: &Cell<'_>) {
    cell.stage.consumers[1].1.reconnect();
}

async fn hangs(cell: &Cell<'_>, broker: &Instance) {
    cell.struck();
    broker.signal("STOP").await;
    cell.hold_until_logged(NOTICED).await;
    cell.nobody_is_blamed().await;
    broker.signal("CONT").await;
    cell.mended();
}

async fn alarmed(cell: &Cell<'_>, limit: &str, alarm: &[&str], end: &[&str]) {
    let rabbitmq = &cell.arena.rabbitmq;
    cell.struck();
    rabbitmq.rabbitmqctl(&[&[limit], alarm].concat()).await;
    cell.go_on(MEANWHILE).await;
    cell.nobody_is_blamed().await;
    rabbitmq.rabbitmqctl(&[&[limit], end].concat()).await;
    cell.mended();
}
