//! `examples/python`: psycopg and pika.

use lapin::BasicProperties;
use tokio::process::Command;

use super::fault::{self, Consumer};
use super::program::Program;
use super::{Messages, Stage, example};
use crate::amqp::{Queue, properties};
use crate::support::patience::until;
use crate::support::services::{Services, variable};

fn consumer(stage: &Stage, queue: &Queue) -> Program {
    let mut command = Command::new(variable("OUTBOX_TEST_PYTHON"));
    command
        .arg(example("python/consumer.py"))
        .env("PYTHONPATH", variable("OUTBOX_TEST_PYTHON_PACKAGES"))
        .env("PYTHONUNBUFFERED", "1")
        // The sources of the tree are nobody's to write to.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("DATABASE_URL", &stage.url)
        .env("AMQP_URL", Services::amqp())
        .env("QUEUE", &queue.name);
    Program::start(&mut command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_consumer_in_python_pays_once_and_parks_poison() {
    // GIVEN a message that was sent twice, and a consumer that is killed before it acknowledges the first
    let (stage, queue, messages) = (Stage::new().await, Queue::declare().await, Messages::new());
    for (id, payload) in messages.before_the_kill() {
        queue.publish(properties(id, &[]), payload.as_bytes()).await;
    }
    stage.kill_in_the_commit(consumer(&stage, &queue)).await;

    // WHEN the next one comes, and messages that cannot and that can be processed
    let mut next = consumer(&stage, &queue);
    next.wait_said("duplicate ignored", 2).await;
    for (id, payload) in messages.after_the_kill() {
        queue.publish(properties(id, &[]), payload.as_bytes()).await;
    }
    next.wait_said("message parked", 1).await;
    next.wait_said("payment made", 1).await;
    next.stop().await;

    // THEN each has its effect once, and nothing is left but the poison, among the dead letters
    stage.assert_once("billing-python", &messages).await;
    until("the queue to be empty", async || {
        (queue.depth(&queue.name).await == 0 && queue.depth(&queue.dead).await == 1).then_some(())
    })
    .await;
}

struct Billing(Queue);

impl Consumer for Billing {
    const NAME: &str = "billing-python";

    fn start(&self, stage: &Stage) -> Program {
        consumer(stage, &self.0)
    }

    async fn send(&self, id: Option<&str>, payload: Option<&str>) {
        let null = [("x-outbox-null", "true")];
        let headers = if payload.is_none() { &null[..] } else { &[] };
        // A short string of AMQP has room for 255 bytes.
        let properties = id.map_or_else(BasicProperties::default, |id| properties(id, headers));
        self.0.publish(properties, payload.unwrap_or_default().as_bytes()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_consumer_in_python_cannot_process_is_parked() {
    let billing = Billing(Queue::declare().await);
    fault::what_cannot_be_processed_is_parked(&billing).await;
    until("the queue to be empty", async || {
        let Queue { name, dead, .. } = &billing.0;
        (billing.0.depth(name).await == 0 && billing.0.depth(dead).await == 8).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_consumer_in_python_gives_back_what_another_process_is_at() {
    let billing = Billing(Queue::declare().await);
    fault::what_another_process_is_at_is_given_back(&billing, "message given back").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_consumer_in_python_outlasts_a_missing_table() {
    fault::what_fails_for_a_while_is_not_given_up(&Billing(Queue::declare().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_consumer_in_python_parked_can_be_replayed() {
    fault::what_was_parked_can_be_replayed(&Billing(Queue::declare().await)).await;
}
