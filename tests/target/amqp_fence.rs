//! RabbitMQ's fence: who publishes holds it.

use std::time::Duration;

use outbox_relay::config::{AmqpConfig, AmqpFence};
use outbox_relay::target::amqp::AmqpTarget;
use outbox_relay::target::{ConnectError, Event, Target};

use super::amqp::{self, Rabbit};
use super::driver::Driver;
use super::fence;
use super::row::{WINDOW, parts, submission};
use crate::support::patience::wait_for;
use crate::support::services::variable;

/// GIVEN a connected target WHEN another one with the same fence connects THEN it is told to wait, as
/// long as the first is connected; and one of another outbox, or without a fence, is not.
#[tokio::test(flavor = "multi_thread")]
async fn one_connection_holds_it() {
    let rabbit = Rabbit::new("fence", "classic").await;
    let fence = fence();
    let target = |config: AmqpConfig| {
        let routes = vec![amqp::route(&rabbit.exchange, vec![])];
        AmqpTarget::new(config, routes, WINDOW, fence.clone())
    };
    let mut first = Driver::connect(target(amqp::config())).await;

    let mut second = target(amqp::config());
    let error = second.connect().await.expect_err("two at a time");
    let ConnectError::Fenced(reason) = error else { panic!("{error}") };
    assert!(reason.contains("405 RESOURCE_LOCKED"), "{reason}");
    assert!(reason.contains(fence.as_str()), "{reason}");
    assert!(rabbit.target().connect().await.is_ok(), "the fence of another outbox");
    let open = AmqpConfig { fence: AmqpFence::Off, ..amqp::config() };
    assert!(target(open).connect().await.is_ok(), "fence = \"none\"");

    // The holder is not disturbed.
    first.publish_all([submission(parts(1, "good.a"))], 1).await;
    assert_eq!(first.outcomes.confirmed, [1]);
    first.target.disconnect().await;
    second.connect().await.expect("the fence is free before the goodbye");
}

/// GIVEN a leader WHEN a policy with `expires` matches its fence THEN it keeps it; and WHEN the fence is
/// deleted all the same THEN the connection is lost, and says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_is_deleted_is_missed() {
    let rabbit = Rabbit::new("fence", "classic").await;
    let fence = fence();
    let policy = format!("expires-{}", fence.as_str());
    let pattern = format!("^{}$", fence.as_str().replace('.', "[.]"));
    let apply = async |expires: &str| {
        let set = ["set_policy", &policy, &pattern, expires, "--apply-to", "queues"];
        rabbitmqctl(&set).await;
    };
    apply(r#"{"expires": 2000}"#).await;
    let routes = vec![amqp::route(&rabbit.exchange, vec![])];
    let mut target = AmqpTarget::new(amqp::config(), routes, WINDOW, fence.clone());
    target.connect().await.expect("the fence is free");

    // Several times the policy's patience: nothing happens.
    let mut events = Vec::new();
    let quiet = tokio::time::timeout(Duration::from_secs(6), target.events(&mut events)).await;
    assert!(quiet.is_err(), "{events:?}");

    // One that is shorter than the time between two looks does.
    tokio::join!(apply(r#"{"expires": 1}"#), wait_for("the loss", target.events(&mut events)));
    rabbitmqctl(&["clear_policy", &policy]).await;
    let [Event::Broken(broken)] = events.as_slice() else { panic!("{events:?}") };
    assert!(broken.reason.contains(fence.as_str()), "{broken:?}");
    assert!(broken.reason.contains("was deleted"), "{broken:?}");
    assert_eq!(broken.suspect, None);
    target.connect().await.expect("it can be taken again");
}

async fn rabbitmqctl(arguments: &[&str]) {
    let output = tokio::process::Command::new(variable("OUTBOX_TEST_RABBITMQCTL"))
        .args(arguments)
        .output()
        .await
        .expect("rabbitmqctl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
