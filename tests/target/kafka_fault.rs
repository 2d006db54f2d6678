//! What can go wrong at Kafka, and what the target makes of it.

use std::time::Duration;

use outbox_relay::config::KafkaConfig;
use outbox_relay::message::Parts;
use outbox_relay::target::{ConnectError, Reaction, Setting, Target, Trouble};

use super::driver::Driver;
use super::kafka::{self, Kafka};
use super::row::{parts, submission};
use crate::support::instance::{Instance, Kind};
use crate::support::patience::wait_for;

/// GIVEN good rows around some for a topic that does not exist WHEN they are published
/// THEN those are parked and the others pass; and once the topic exists, it takes rows.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_parks_its_rows_only() {
    let (good, absent) = (Kafka::new("fault", 1, &[]).await, Kafka::absent("fault"));
    let routes = vec![kafka::route(&good.topic, vec![]), kafka::route(&absent.topic, vec![])];
    let mut driver = Driver::connect(kafka::target(kafka::config(), routes)).await;
    let to = |id: i64, route| {
        let mut submission = submission(parts(id, "a"));
        submission.route = route;
        submission
    };
    driver.publish_all((1..=100).map(|id| to(id, usize::from(id % 10 == 0))), 1_000).await;
    assert_eq!(driver.outcomes.confirmed.len(), 90);
    assert_eq!(driver.outcomes.refused.len(), 10);
    for (row, refusal) in &driver.outcomes.refused {
        assert_eq!((row % 10, refusal.reaction), (0, Reaction::Park(Trouble::Missing)));
        assert!(refusal.reason.contains(&absent.topic), "{}", refusal.reason);
    }
    absent.create(&[]).await;
    wait_for("the topic to take a row", async {
        loop {
            driver.publish_all([to(200, 1)], 1).await;
            if driver.outcomes.confirmed.contains(&200) {
                break;
            }
        }
    })
    .await;
    assert_eq!(absent.rows().await, [200]);
}

/// GIVEN a topic with a limit that is below the client's WHEN a row exceeds it THEN it is a suspect,
/// and alone as well; the others pass.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_above_the_topics_limit_is_a_suspect() {
    let topic = Kafka::new("fault", 1, &[("max.message.bytes", "2000")]).await;
    let mut driver = Driver::connect(topic.target()).await;
    let large = vec![0; 3_000];
    let row = || submission(Parts { payload: Some(&large), ..parts(2, "a") });
    for row in [submission(parts(1, "a")), row(), submission(parts(3, "a"))] {
        driver.publish_all([row], 1).await;
    }
    assert_eq!(driver.outcomes.confirmed, [1, 3]);
    let [(2, refusal)] = &driver.outcomes.refused[..] else {
        panic!("{:?}", driver.outcomes.refused)
    };
    assert_eq!(refusal.reaction, Reaction::Suspect);
    let words = "payload of 3000 bytes: larger than the topic's max.message.bytes";
    assert!(refusal.reason.contains(words), "{}", refusal.reason);
}

/// GIVEN a client's limit WHEN a row exceeds it THEN it is buried, with size and limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_above_the_clients_limit_is_buried() {
    let topic = Kafka::new("fault", 1, &[]).await;
    let properties = vec![("message.max.bytes".to_owned(), "5000".to_owned())];
    let config = KafkaConfig { properties, ..kafka::config() };
    let target = kafka::target(config, vec![kafka::route(&topic.topic, vec![])]);
    let mut driver = Driver::connect(target).await;
    let large = vec![0; 6_000];
    driver.publish_all([submission(Parts { payload: Some(&large), ..parts(1, "a") })], 1).await;
    let [(1, refusal)] = &driver.outcomes.refused[..] else {
        panic!("{:?}", driver.outcomes.refused)
    };
    assert_eq!(refusal.reaction, Reaction::Bury);
    let words = "payload of 6000 bytes exceeds message.max.bytes = 5000";
    assert!(refusal.reason.contains(words), "{}", refusal.reason);
}

/// GIVEN a queue of librdkafka that is smaller than the window (no configuration allows that)
/// WHEN it is full again and again THEN nothing is lost, and the order is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_keeps_the_order() {
    let topic = Kafka::new("fault", 1, &[]).await;
    let properties = vec![("queue.buffering.max.messages".to_owned(), "10".to_owned())];
    let config = KafkaConfig { properties, ..kafka::config() };
    let target = kafka::target(config, vec![kafka::route(&topic.topic, vec![])]);
    let mut driver = Driver::connect(target).await;
    driver.publish_all((1..=2_000).map(|id| submission(parts(id, "a"))), 1_000).await;
    assert_eq!(driver.outcomes.confirmed.len(), 2_000);
    assert!(topic.rows().await.into_iter().eq(1..=2_000));
}

/// GIVEN a compacted topic WHEN a row has no key THEN the setting of the topic is why, and rows with one pass.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_key_in_a_compacted_topic_is_refused_for_the_setting() {
    let topic = Kafka::new("fault", 1, &[("cleanup.policy", "compact")]).await;
    let mut driver = Driver::connect(topic.target()).await;
    driver.publish_all([submission(Parts { key: None, ..parts(1, "a") })], 1).await;
    driver.publish_all([submission(parts(2, "a"))], 1).await;
    assert_eq!(driver.outcomes.confirmed, [2]);
    assert_eq!(driver.outcomes.refused[0].1.reaction, Reaction::Setting(Setting::Record));
}

/// GIVEN a property that librdkafka does not know WHEN the target connects THEN it is a mistake, with
/// the property's name and no value.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_property_is_a_mistake() {
    let secret_properties = vec![("sasl.pasword".to_owned(), "secret".to_owned().into())];
    let config = KafkaConfig { secret_properties, ..kafka::config() };
    let error = kafka::target(config, vec![]).connect().await.expect_err("a mistake");
    let ConnectError::Configuration { reason, .. } = error else { panic!("{error}") };
    assert!(reason.contains("sasl.pasword") && !reason.contains("secret"), "{reason}");
}

/// GIVEN rows in flight WHEN the only broker goes away THEN librdkafka waits, and if that takes too
/// long it is an outage without a suspect; and when it is back, rows pass.
#[tokio::test(flavor = "multi_thread")]
async fn all_brokers_down_is_an_outage() {
    let broker = Instance::start(Kind::Kafka).await;
    let connect_timeout = Duration::from_secs(2);
    let config = KafkaConfig { brokers: broker.url().into(), connect_timeout, ..kafka::config() };
    let topic = super::unique("fault");
    kafka::create_at(broker.url(), &topic, 1, &[]).await;
    let mut driver =
        Driver::connect(kafka::target(config, vec![kafka::route(&topic, vec![])])).await;
    driver.publish_all([submission(parts(1, "a"))], 1).await;
    broker.kill().await;
    (2..=100).for_each(|id| driver.submit(submission(parts(id, "a"))));
    let broken = driver.broken().await;
    assert_eq!(broken.suspect, None);
    assert!(broken.reason.contains("Connection refused"), "{}", broken.reason);
    driver.target.disconnect().await;
    assert!(matches!(driver.target.connect().await, Err(ConnectError::Outage(_))));

    broker.start_again().await;
    wait_for("Kafka to be back", async { while driver.target.connect().await.is_err() {} }).await;
    driver.reconnect().await;
    driver.publish_all((2..=100).map(|id| submission(parts(id, "a"))), 1_000).await;
    assert_eq!(driver.outcomes.confirmed.len(), 99);
}
