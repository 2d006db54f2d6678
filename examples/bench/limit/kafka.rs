//! A bare librdkafka producer with the relay's properties and nothing to read from.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use outbox_relay::config::default::DEFAULT_KAFKA_WINDOW_MESSAGES_MAX;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};

use super::COLUMNS;
use crate::backlog::KEYS;
use crate::drain::USUAL_PAYLOAD;
use crate::meter::Meter;
use crate::rig::Rig;
use crate::usage::Process;

/// The relay's own default.
pub(super) const RELAY_WINDOW: u64 = DEFAULT_KAFKA_WINDOW_MESSAGES_MAX as u64;
/// As much as librdkafka makes use of.
pub(super) const WIDE_WINDOW: u64 = 100_000;

/// What `relay/src/target/kafka/producer.rs` sets.
pub(crate) const PROPERTIES: [(&str, &str); 6] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("message.timeout.ms", "0"),
    ("partitioner", "murmur2_random"),
    ("linger.ms", "0"),
    ("queue.buffering.max.messages", "0"),
];

/// Counts confirms, and wakes the publisher at the one that it waits for.
#[derive(Clone, Default)]
struct Confirmed(Arc<Shared>);

#[derive(Default)]
struct Shared {
    count: Mutex<Count>,
    reached: Condvar,
}

#[derive(Default)]
struct Count {
    confirmed: u64,
    wanted: u64,
}

impl Confirmed {
    fn wait_for(&self, wanted: u64) {
        let mut count = self.0.count.lock().expect("nobody panics while counting");
        count.wanted = wanted;
        while count.confirmed < wanted {
            count = self.0.reached.wait(count).expect("nobody panics while counting");
        }
    }
}

impl ClientContext for Confirmed {}

impl ProducerContext for Confirmed {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "Kafka refused a message");
        let mut count = self.0.count.lock().expect("nobody panics while counting");
        count.confirmed += 1;
        if count.confirmed == count.wanted {
            self.0.reached.notify_one();
        }
    }
}

pub(super) async fn measure(rig: &Rig, rows: u64, window: u64) -> [f64; COLUMNS.len()] {
    let meter = Meter::kafka(rig).await;
    let Meter::Kafka { topic, .. } = &meter else { unreachable!("it was made for Kafka") };
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", rig.kafka.url());
    for (name, value) in PROPERTIES {
        config.set(name, value);
    }
    let (me, broker) = (Process(std::process::id()), rig.kafka_process());
    let (own, theirs, begun) = (me.cpu(), broker.cpu(), Instant::now());
    tokio::task::block_in_place(|| publish(&config, &topic.topic, rows, window));
    let seconds = begun.elapsed().as_secs_f64();
    let line = [
        rows as f64 / seconds,
        (me.cpu() - own).per_100k(rows),
        (broker.cpu() - theirs).per_100k(rows),
    ];
    meter.delete().await;
    line
}

fn publish(config: &ClientConfig, topic: &str, rows: u64, window: u64) {
    let confirmed = Confirmed::default();
    let producer: ThreadedProducer<Confirmed> =
        config.create_with_context(confirmed.clone()).expect("the properties are right");
    let keys: Vec<String> = (0..KEYS).map(|n| format!("customer-{n}")).collect();
    let payload = vec![b'x'; USUAL_PAYLOAD];
    let id = uuid::Uuid::now_v7().to_string();
    for n in 0..rows {
        // In steps of a tenth, or the two threads would wake each other for every message.
        if n >= window && n.is_multiple_of((window / 10).max(1)) {
            confirmed.wait_for(n - window + window / 10);
        }
        let headers =
            OwnedHeaders::new_with_capacity(1).insert(Header { key: "id", value: Some(&id) });
        let key = &keys[(n % KEYS) as usize];
        let record = BaseRecord::to(topic).key(key).payload(&payload).headers(headers);
        producer.send(record).map_err(|(error, _)| error).expect("librdkafka's queue has room");
    }
    confirmed.wait_for(rows);
}
