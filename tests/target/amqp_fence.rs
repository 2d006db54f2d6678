//! RabbitMQ's fence: who publishes holds it.

use outbox_relay::config::{AmqpConfig, AmqpFence};
use outbox_relay::target::amqp::AmqpTarget;
use outbox_relay::target::{ConnectError, Target};

use super::amqp::{self, Rabbit};
use super::driver::Driver;
use super::fence;
use super::row::{WINDOW, parts, submission};

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
