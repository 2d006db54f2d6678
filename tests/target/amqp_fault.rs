//! What can go wrong at RabbitMQ, and what the target makes of it.

use futures_util::FutureExt;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use outbox_relay::config::AmqpConfig;
use outbox_relay::message::Parts;
use outbox_relay::target::{ConnectError, Reaction, Target};

use super::amqp::{self, Rabbit};
use super::driver::Driver;
use super::row::{parts, submission};
use super::unique;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::wait_for;

/// GIVEN good rows around one for an exchange that does not exist WHEN the broker closes the channel
/// THEN one of those in flight is the suspect, to be parked, and none of them is refused; and the
/// good ones pass on the next connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_exchange_closes_the_channel() {
    let rabbit = Rabbit::new("fault", "classic").await;
    let missing = unique("missing");
    let routes = vec![amqp::route(&rabbit.exchange, vec![]), amqp::route(&missing, vec![])];
    let mut driver = Driver::connect(amqp::target(amqp::config(), routes)).await;
    for id in 1..=200 {
        let mut submission = submission(parts(id, "good.a"));
        submission.route = usize::from(id == 100);
        driver.submit(submission);
    }
    let broken = driver.broken().await;
    assert_eq!(broken.suspect, Some(Reaction::Park));
    let words = format!("404 NOT_FOUND - no exchange '{missing}' in vhost '/'");
    assert_eq!(broken.reason, words);
    assert_eq!(driver.outcomes.refused, []);
    assert!(driver.outcomes.confirmed.iter().all(|&id| id < 100), "confirmed behind the culprit");

    // Alone it is sure to be the culprit.
    driver.target.disconnect().await;
    driver.reconnect().await;
    let mut alone = submission(parts(100, "good.a"));
    alone.route = 1;
    driver.submit(alone);
    assert_eq!(driver.broken().await.suspect, Some(Reaction::Park));

    driver.target.disconnect().await;
    driver.reconnect().await;
    let good = (101..=200).map(|id| submission(parts(id, "good.a")));
    driver.publish_all(good, 1_000).await;
    assert_eq!(driver.outcomes.confirmed.len(), 100);
}

/// GIVEN a queue at its limit that rejects WHEN rows are nacked THEN they are to be sent again later.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_nacks() {
    let mut full = Rabbit::new("fault", "classic").await;
    full.queue = unique("full");
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(5));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    full.declare_queue(QueueDeclareOptions::durable(), arguments).await;
    full.bind("full").await;
    let mut driver = Driver::connect(full.target()).await;
    driver.publish_all((1..=100).map(|id| submission(parts(id, "full"))), 1_000).await;
    assert_eq!(driver.outcomes.confirmed.len() + driver.outcomes.refused.len(), 100);
    assert!(driver.outcomes.refused.len() > 50, "{}", driver.outcomes.refused.len());
    for (_, refusal) in &driver.outcomes.refused {
        assert_eq!((refusal.reaction, &*refusal.reason), (Reaction::Retry, "nacked by the broker"));
    }
}

/// GIVEN a wrong password, and a virtual host that does not exist WHEN the target connects
/// THEN it is a mistake in the configuration, with the remedy, and nothing of the password in it.
#[tokio::test(flavor = "multi_thread")]
async fn what_waiting_does_not_change_is_a_mistake() {
    let password = Some("wrong-password".to_owned().into());
    let wrong_password = AmqpConfig { password, ..amqp::config() };
    let url = amqp::config().url.replace("%2F", "nowhere");
    let wrong_host = AmqpConfig { url, ..amqp::config() };
    for (config, reason, hint) in [
        (wrong_password, "403 ACCESS_REFUSED", "the password"),
        (wrong_host, "530 NOT_ALLOWED", "virtual host"),
    ] {
        let error = amqp::target(config, vec![]).connect().await.expect_err("a mistake");
        let ConnectError::Configuration { reason: said, hint: remedy } = error else {
            panic!("{error}")
        };
        assert!(said.contains(reason) && !said.contains("wrong-password"), "{said}");
        assert!(remedy.contains(hint), "{remedy}");
    }
}

/// GIVEN a broker of its own WHEN it is blocked, limits the size of messages, closes connections, is
/// killed and comes back THEN each is what it is: silence, a suspect, an outage.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_in_trouble() {
    let broker = Instance::start(Kind::RabbitMq).await;
    // To the default exchange and a queue that does not exist: unroutable, which is an answer too.
    let config = AmqpConfig { url: broker.url().into(), password: None, ..amqp::config() };
    let mut driver = Driver::connect(amqp::target(config, vec![amqp::route("", vec![])])).await;

    blocked(&broker, &mut driver).await;
    too_large(&broker, &mut driver).await;

    // Idle, and the broker ends the connection: that is told without a message in flight.
    broker.rabbitmqctl(&["close_all_connections", "by a test"]).await;
    let broken = driver.broken().await;
    assert_eq!(broken.suspect, None);
    assert!(broken.reason.contains("CONNECTION_FORCED"), "{}", broken.reason);

    // Killed with messages in flight: nobody is to blame.
    driver.target.disconnect().await;
    driver.reconnect().await;
    broker.kill().await;
    (1..=100).for_each(|id| driver.submit(submission(parts(id, "nowhere"))));
    assert_eq!(driver.broken().await.suspect, None);
    driver.target.disconnect().await;
    assert!(matches!(driver.target.connect().await, Err(ConnectError::Outage(_))));

    broker.start_again().await;
    driver.reconnect().await;
    driver.publish_all([submission(parts(1, "nowhere"))], 1).await;
    assert_eq!(driver.outcomes.refused[0].1.reaction, Reaction::Park);
}

/// `connection.blocked` is no event: nothing comes until it is over, and then everything does.
async fn blocked<T: Target>(broker: &Instance, driver: &mut Driver<T>) {
    assert!(!driver.target.blocked());
    let alarm =
        |set: &str| format!("rabbit_alarm:{set}_alarm({{resource_limit, memory, node()}}).");
    let set = "rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).";
    broker.rabbitmqctl(&["eval", set]).await;
    // RabbitMQ tells a connection when it publishes.
    (1..=100).for_each(|id| driver.submit(submission(parts(id, "nowhere"))));
    let mut events = vec![];
    wait_for("the broker to block the connection", async {
        while !driver.target.blocked() {
            assert!(driver.target.events(&mut events).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(driver.target.events(&mut events).now_or_never().is_none());
    broker.rabbitmqctl(&["eval", &alarm("clear")]).await;
    driver.settle().await;
    assert_eq!(driver.outcomes.refused.len(), 100);
    assert!(!driver.target.blocked());
}

/// A message above the broker's limit closes the channel: a suspect, to be buried.
async fn too_large<T: Target>(broker: &Instance, driver: &mut Driver<T>) {
    let limit = "application:set_env(rabbit, max_message_size, 1000).";
    broker.rabbitmqctl(&["eval", limit]).await;
    // The channel reads the limit when it is opened.
    driver.target.disconnect().await;
    driver.reconnect().await;
    let large = vec![0; 1_001];
    driver.submit(submission(Parts { payload: Some(&large), ..parts(1, "nowhere") }));
    let broken = driver.broken().await;
    assert_eq!(broken.suspect, Some(Reaction::Bury), "{}", broken.reason);
    assert!(broken.reason.contains("message size"), "{}", broken.reason);
    driver.target.disconnect().await;
    driver.reconnect().await;
    driver
        .publish_all([submission(Parts { payload: Some(&large[1..]), ..parts(1, "nowhere") })], 1)
        .await;
}
