//! `examples/node`: pg and kafkajs.

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::process::Command;

use super::program::Program;
use super::{Messages, Stage, example};
use crate::kafka::{publish, topic};
use crate::support::patience::PATIENCE;
use crate::support::services::{Services, variable};

const CONSUMER: &str = "billing-node";

fn consumer(stage: &Stage, topic: &str) -> Program {
    let mut command = Command::new("node");
    command
        .arg(example("node/consumer.js"))
        .env("NODE_PATH", format!("{}/node_modules", variable("OUTBOX_TEST_NODE_PACKAGES")))
        .env("DATABASE_URL", &stage.url)
        .env("KAFKA_BROKERS", Services::kafka())
        .env("TOPIC", topic);
    Program::start(&mut command)
}

/// The place from which the group goes on.
fn committed(topic: &str) -> Offset {
    let group: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", Services::kafka())
        .set("group.id", CONSUMER)
        .create()
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition(topic, 0);
    group.committed_offsets(partitions, PATIENCE).unwrap().elements()[0].offset()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_consumer_in_node_pays_once_and_parks_poison() {
    // GIVEN a record that was sent twice, and a consumer that is killed before it commits the first one's offset
    let (stage, topic, messages) = (Stage::new().await, topic().await, Messages::new());
    for (id, payload) in messages.before_the_kill() {
        publish(&topic, id, payload, false);
    }
    stage.kill_in_the_commit(consumer(&stage, &topic)).await;

    // WHEN the next one comes, and records that cannot and that can be processed
    let mut next = consumer(&stage, &topic);
    next.wait_said("duplicate ignored", 2).await;
    for (id, payload) in messages.after_the_kill() {
        publish(&topic, id, payload, false);
    }
    next.wait_said("message parked", 1).await;
    next.wait_said("payment made", 1).await;
    next.stop().await;

    // THEN each has its effect once, and the poison holds nobody up
    stage.assert_once(CONSUMER, &messages).await;
    assert_eq!(committed(&topic), Offset::Offset(4));
}
