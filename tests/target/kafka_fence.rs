//! Kafka's fence: transactions under one name.

use outbox_relay::config::{KafkaConfig, KafkaFence};
use outbox_relay::message::Parts;
use outbox_relay::target::kafka::KafkaTarget;
use outbox_relay::target::{Reaction, Target, Trouble};

use super::driver::Driver;
use super::fence;
use super::kafka::{self, Kafka};
use super::row::{parts, submission};

/// GIVEN a target in mid-stream WHEN another one connects under the same name THEN the first is
/// broken, nothing of it shows behind the second's first message, and what it had confirmed shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_successor_fences_the_predecessor_off() {
    let topic = Kafka::new("fence", 1, &[]).await;
    let fence = fence();
    let mut first = Driver::connect(topic.fenced(fence.clone())).await;
    first.publish_all((1..=100).map(|id| submission(parts(id, "a"))), 1_000).await;
    (101..=200).for_each(|id| first.submit(submission(parts(id, "a"))));

    let mut second = Driver::connect(topic.fenced(fence)).await;
    second.publish_all((1_001..=1_100).map(|id| submission(parts(id, "a"))), 1_000).await;
    (201..=300).for_each(|id| first.submit(submission(parts(id, "a"))));
    let broken = first.broken().await;
    assert_eq!(broken.suspect, None);
    assert!(broken.reason.contains("ence"), "{}", broken.reason);
    first.target.disconnect().await;
    second.publish_all([submission(parts(1_101, "a"))], 1).await;

    let rows = topic.rows().await;
    assert!(rows[..100].iter().copied().eq(1..=100), "{rows:?}");
    assert!(rows[100..].iter().copied().eq(1_001..=1_101), "{rows:?}");
}

/// GIVEN rows for a topic that does not exist, and one that is too large, among others WHEN they are
/// published THEN those are refused, and the others are confirmed and show once, in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_row_spoils_nothing_but_a_transaction() {
    let (topic, absent) = (Kafka::new("fence", 1, &[]).await, Kafka::absent("fence"));
    let narrow = Kafka::new("fence", 1, &[("max.message.bytes", "2000")]).await;
    let topics = [&topic, &absent, &narrow];
    let routes = topics.map(|topic| kafka::route(&topic.topic, vec![])).to_vec();
    let config = KafkaConfig { fence: KafkaFence::Transaction, ..kafka::config() };
    let mut driver = Driver::connect(KafkaTarget::new(config, routes, fence())).await;
    let rows = (1..=100).map(|id| {
        let mut submission = submission(parts(id, "a"));
        submission.route = usize::from(id % 10 == 0);
        submission
    });
    driver.publish_all(rows, 1_000).await;
    let large = vec![0; 3_000];
    let mut large = submission(Parts { payload: Some(&large), ..parts(101, "a") });
    large.route = 2;
    driver.publish_all([large], 1).await;
    driver.publish_all([submission(parts(102, "a"))], 1).await;

    let refused = driver.outcomes.refused.iter().map(|(row, refusal)| (*row, refusal.reaction));
    let parked = (1..=10).map(|n| (n * 10, Reaction::Park(Trouble::Missing)));
    let expected: Vec<_> = parked.chain([(101, Reaction::Suspect)]).collect();
    assert_eq!(refused.collect::<Vec<_>>(), expected);
    let good = (1..=100).filter(|id| id % 10 != 0).chain([102]);
    driver.outcomes.confirmed.sort_unstable();
    assert!(driver.outcomes.confirmed.iter().copied().eq(good.clone()));
    assert!(topic.rows().await.into_iter().eq(good));
    assert_eq!(narrow.rows().await, [0_i64; 0]);
}
