//! What the trait `Target` promises, on both brokers.

use futures_util::FutureExt;
use outbox_relay::config::{AmqpConfig, KafkaConfig};
use outbox_relay::target::{ConnectError, Target};

use super::amqp::{self, Rabbit};
use super::driver::Driver;
use super::kafka::{self, Kafka};
use super::row::{parts, submission};
use crate::support::patience::wait_for;

/// A destination, whatever the broker.
trait Place {
    fn target(&self) -> impl Target;
    async fn rows(&self) -> Vec<i64>;
}

impl Place for Rabbit {
    fn target(&self) -> impl Target {
        self.target()
    }

    async fn rows(&self) -> Vec<i64> {
        self.rows().await
    }
}

impl Place for Kafka {
    fn target(&self) -> impl Target {
        self.target()
    }

    async fn rows(&self) -> Vec<i64> {
        self.rows().await
    }
}

/// A topic that is written to in transactions.
struct Fenced(Kafka);

impl Place for Fenced {
    fn target(&self) -> impl Target {
        self.0.fenced(super::fence())
    }

    async fn rows(&self) -> Vec<i64> {
        self.0.rows().await
    }
}

async fn fenced() -> Fenced {
    Fenced(kafka().await)
}

async fn rabbit() -> Rabbit {
    Rabbit::new("contract", "classic").await
}

/// One partition: its order is the order of publishing.
async fn kafka() -> Kafka {
    Kafka::new("contract", 1, &[]).await
}

/// One test for each broker, and for Kafka with a fence.
macro_rules! on_both {
    ($($name:ident)+) => {
        mod on_amqp {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::rabbit().await).await; })+
        }
        mod on_kafka {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::kafka().await).await; })+
        }
        mod in_transactions {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::fenced().await).await; })+
        }
    };
}

on_both! {
    every_ticket_is_confirmed_once_and_order_is_kept
    a_small_window_flows
    nothing_comes_after_disconnect
    a_second_connection_works_like_the_first
    a_dropped_events_future_loses_nothing
    a_dropped_connect_leaves_the_target_disconnected
}

/// GIVEN a window of 10,000 WHEN 30,000 rows are published
/// THEN each is confirmed once, and stands at the broker in the order of `submit`.
async fn every_ticket_is_confirmed_once_and_order_is_kept(place: impl Place) {
    let mut driver = Driver::connect(place.target()).await;
    let rows = 1..=30_000;
    driver.publish_all(rows.clone().map(|id| submission(parts(id, "good.a"))), 10_000).await;
    let mut confirmed = driver.outcomes.confirmed.clone();
    confirmed.sort_unstable();
    assert!(confirmed.into_iter().eq(rows.clone()));
    assert_eq!(driver.outcomes.refused, []);
    driver.target.disconnect().await;
    assert!(place.rows().await.into_iter().eq(rows));
}

/// GIVEN windows of 1, 2 and 3 WHEN rows are published THEN all of them are confirmed: no barrier
/// waits for a message that the window does not let in.
async fn a_small_window_flows(place: impl Place) {
    let mut driver = Driver::connect(place.target()).await;
    for window in [1, 2, 3] {
        driver.publish_all((1..=20).map(|id| submission(parts(id, "good.a"))), window).await;
    }
    assert_eq!(driver.outcomes.confirmed.len(), 60);
}

/// GIVEN 5,000 rows just submitted WHEN the target is disconnected
/// THEN no event comes, and what was not on the wire by then is never published.
async fn nothing_comes_after_disconnect(place: impl Place) {
    let mut driver = Driver::connect(place.target()).await;
    for id in 1..=5_000 {
        driver.submit(submission(parts(id, "good.a")));
    }
    driver.target.disconnect().await;
    let mut events = vec![];
    assert!(driver.target.events(&mut events).now_or_never().is_none());
    driver.submit(submission(parts(5_001, "good.a")));
    assert!(driver.target.events(&mut events).now_or_never().is_none());
    assert_eq!(events, []);
    // What had left by then is a prefix, and nothing of it is missing in the middle.
    driver.reconnect().await;
    driver.publish_all([submission(parts(6_000, "good.a"))], 1).await;
    let mut rows = place.rows().await;
    rows.retain(|&row| row != 6_000);
    assert!(rows.iter().copied().eq(1..=rows.len().try_into().unwrap()), "{rows:?}");
}

/// GIVEN a connection that was given up in the middle WHEN everything unconfirmed is sent again on
/// the next THEN nothing is missing, and the first occurrences are in order.
async fn a_second_connection_works_like_the_first(place: impl Place) {
    let mut driver = Driver::connect(place.target()).await;
    for id in 1..=2_000 {
        driver.submit(submission(parts(id, "good.a")));
    }
    driver.next_events().await;
    let confirmed = driver.outcomes.confirmed.clone();
    driver.target.disconnect().await;
    driver.reconnect().await;
    let again = (1..=2_000).filter(|id| !confirmed.contains(id));
    driver.publish_all(again.map(|id| submission(parts(id, "good.a"))), 10_000).await;
    let mut rows = place.rows().await;
    let mut seen = std::collections::HashSet::new();
    rows.retain(|row| seen.insert(*row));
    assert!(rows.into_iter().eq(1..=2_000));
}

/// GIVEN `events` futures that are polled once and dropped, again and again
/// WHEN rows are published THEN every answer comes all the same.
async fn a_dropped_events_future_loses_nothing(place: impl Place) {
    let mut driver = Driver::connect(place.target()).await;
    let mut answered = 0;
    for id in 1..=1_000 {
        driver.submit(submission(parts(id, "good.a")));
        let mut events = vec![];
        let _ = driver.target.events(&mut events).now_or_never();
        answered += events.len();
    }
    while answered < 1_000 {
        let mut events = vec![];
        wait_for("events", driver.target.events(&mut events)).await;
        answered += events.len();
    }
    assert_eq!(answered, 1_000);
}

/// GIVEN a `connect` that is given up after any number of polls WHEN the target is used THEN it is
/// disconnected, and the next `connect` works.
async fn a_dropped_connect_leaves_the_target_disconnected(place: impl Place) {
    let mut target = place.target();
    for polls in 1..20 {
        {
            let mut connect = std::pin::pin!(target.connect());
            let mut connected = false;
            for _ in 0..polls {
                connected = connect.as_mut().now_or_never().is_some();
                if connected {
                    break;
                }
                tokio::task::yield_now().await;
            }
            if connected {
                break;
            }
        }
        let mut events = vec![];
        target.submit(submission(parts(1, "good.a")));
        assert!(target.events(&mut events).now_or_never().is_none());
    }
    let mut driver = Driver::connect(target).await;
    driver.publish_all([submission(parts(2, "good.a"))], 1).await;
    driver.target.disconnect().await;
    assert_eq!(place.rows().await, [2]);
}

/// GIVEN nobody listening there WHEN a target connects THEN it is an outage, not a mistake.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_is_an_outage() {
    let timeout = std::time::Duration::from_secs(2);
    let url = "amqp://user@127.0.0.1:1/%2f".into();
    let config = AmqpConfig { url, connect_timeout: timeout, ..amqp::config() };
    let mut target = amqp::target(config, vec![]);
    assert!(matches!(target.connect().await, Err(ConnectError::Outage(_))));
    let brokers = "127.0.0.1:1".into();
    let config = KafkaConfig { brokers, connect_timeout: timeout, ..kafka::config() };
    let mut target = kafka::target(config, vec![]);
    let error = target.connect().await.expect_err("nobody is there");
    assert!(
        matches!(&error, ConnectError::Outage(reason) if reason.contains("refused")),
        "{error}"
    );
}
