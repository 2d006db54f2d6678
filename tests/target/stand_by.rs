//! A target that stands by has a connection at hand when it is to lead.

use std::time::Duration;

use outbox_relay::config::{AmqpConfig, KafkaConfig, KafkaFence};
use outbox_relay::target::Target;

use super::amqp::{self, Rabbit};
use super::driver::Driver;
use super::kafka::{self, Kafka};
use super::row::{parts, submission};
use crate::support::patience::until;
use crate::support::proxy::{Network, Proxy};
use crate::support::services::Services;

/// Standing by never returns; after this long it is looked at what is at hand.
const SPELL: Duration = Duration::from_millis(500);

/// Stands by until `connect` needs no other connection than the one at hand.
async fn connect_at_hand(target: &mut impl Target, proxy: &Proxy) {
    until("a connection at hand", async || {
        let _ = tokio::time::timeout(SPELL, target.stand_by()).await;
        let before = proxy.connections();
        target.connect().await.expect("the broker is there");
        let at_hand = proxy.connections() == before;
        if !at_hand {
            target.disconnect().await;
        }
        at_hand.then_some(())
    })
    .await;
}

/// GIVEN a target that stood by WHEN it connects THEN it is with what it had at hand, and it works.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_needs_no_other_connection() {
    let rabbit = Rabbit::new("standby", "classic").await;
    let (proxy, url) = Proxy::in_front_of(&amqp::config().url).await;
    let config = AmqpConfig { url, ..amqp::config() };
    let mut target = amqp::target(config, vec![amqp::route(&rabbit.exchange, vec![])]);
    connect_at_hand(&mut target, &proxy).await;
    let mut driver = Driver::connected(target);
    driver.publish_all([submission(parts(1, "good.a"))], 1).await;
    assert_eq!(driver.outcomes.confirmed, [1]);
}

/// GIVEN a connection at hand that is lost WHEN the target connects THEN it does not lead with that; and it
/// works once there is a broker.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_at_hand_is_replaced() {
    let rabbit = Rabbit::new("standby", "classic").await;
    let (proxy, url) = Proxy::in_front_of(&amqp::config().url).await;
    let config = AmqpConfig { url, ..amqp::config() };
    let mut target = amqp::target(config, vec![amqp::route(&rabbit.exchange, vec![])]);
    until("a connection at hand", async || {
        let _ = tokio::time::timeout(SPELL, target.stand_by()).await;
        (proxy.connections() > 0).then_some(())
    })
    .await;
    proxy.set(Network::Down);
    target.connect().await.expect_err("there is no broker");
    proxy.set(Network::Up);
    let mut driver = Driver::connect(target).await;
    driver.publish_all([submission(parts(1, "good.a"))], 1).await;
    assert_eq!(driver.outcomes.confirmed, [1]);
}

/// The same at Kafka, with and without a fence.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_needs_no_other_connection() {
    for fence in [KafkaFence::Off, KafkaFence::Transaction] {
        let topic = Kafka::new("standby", 1, &[]).await;
        let (proxy, url) = Proxy::in_front_of(&format!("kafka://{}", Services::kafka())).await;
        let brokers = url["kafka://".len()..].to_owned();
        let config = KafkaConfig { brokers, fence, ..kafka::config() };
        let mut target = kafka::target(config, vec![kafka::route(&topic.topic, vec![])]);
        connect_at_hand(&mut target, &proxy).await;
        let mut driver = Driver::connected(target);
        driver.publish_all([submission(parts(1, "a"))], 1).await;
        assert_eq!(driver.outcomes.confirmed, [1]);
    }
}
