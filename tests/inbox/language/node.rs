//! `examples/node`: pg and kafkajs.

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::process::Command;

use super::fault;
use super::program::Program;
use super::{Messages, Stage, example};
use crate::kafka::{publish, publish_as, topic};
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
        // Members of one group are told to read each other's topics.
        .env("GROUP", group(topic))
        .env("TOPIC", topic);
    Program::start(&mut command)
}

fn group(topic: &str) -> String {
    format!("{CONSUMER}-of-{topic}")
}

/// The place from which the group goes on.
fn committed(topic: &str) -> Offset {
    let group: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", Services::kafka())
        .set("group.id", group(topic))
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

struct Billing(String);

impl fault::Consumer for Billing {
    const NAME: &str = CONSUMER;

    fn start(&self, stage: &Stage) -> Program {
        consumer(stage, &self.0)
    }

    async fn send(&self, id: Option<&str>, payload: Option<&str>) {
        publish_as(&self.0, id.map(str::as_bytes), payload);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_consumer_in_node_cannot_process_is_parked() {
    let billing = Billing(topic().await);
    fault::what_cannot_be_processed_is_parked(&billing).await;
    assert_eq!(committed(&billing.0), Offset::Offset(16));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_are_no_text_are_not_one_id_in_node() {
    // GIVEN two messages whose ids are different bytes, and would be one text
    let (stage, topic) = (Stage::open().await, topic().await);
    for id in [[0xfe], [0xff]] {
        publish_as(&topic, Some(&id), Some(r#"{"payment_id": "p", "amount": 1}"#));
    }
    let mut program = consumer(&stage, &topic);
    // THEN neither is taken for the other: both wait for a person
    program.wait_said("message parked", 2).await;
    program.stop().await;
    assert_eq!(stage.session.count("SELECT count(*) FROM outbox.inbox_failure").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_consumer_in_node_waits_for_what_another_process_is_at() {
    let billing = Billing(topic().await);
    fault::what_another_process_is_at_is_given_back(&billing, "no attempt, tried again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_consumer_in_node_outlasts_a_missing_table() {
    fault::what_fails_for_a_while_is_not_given_up(&Billing(topic().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_consumer_in_node_parked_can_be_replayed() {
    fault::what_was_parked_can_be_replayed(&Billing(topic().await)).await;
}
