//! What can go wrong at RabbitMQ, and what the target makes of it.

use futures_util::FutureExt;
use lapin::options::{ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use outbox_relay::config::AmqpConfig;
use outbox_relay::message::Parts;
use outbox_relay::target::{ConnectError, Reaction, Refusal, Submission, Target, Trouble};

use super::amqp::{self, Rabbit};
use super::driver::Driver;
use super::row::{parts, submission};
use super::unique;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::wait_for;

/// GIVEN good rows around one for an exchange that does not exist WHEN they are submitted THEN that one
/// is refused and nothing is taken along: it was never published.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_exchange_takes_nothing_along() {
    let rabbit = Rabbit::new("fault", "classic").await;
    let missing = unique("missing");
    let routes = vec![amqp::route(&rabbit.exchange, vec![]), amqp::route(&missing, vec![])];
    let mut driver = Driver::connect(amqp::target(amqp::config(), routes)).await;
    for id in 1..=200 {
        let mut submission = submission(parts(id, "good.a"));
        submission.route = usize::from(id == 100);
        driver.submit(submission);
    }
    driver.settle().await;
    assert_eq!(driver.outcomes.confirmed.len(), 199);
    let words = format!("404 NOT_FOUND - no exchange '{missing}' in vhost '/'");
    let refusal = Refusal { reaction: Reaction::Park(Trouble::Missing), reason: words };
    assert_eq!(driver.outcomes.refused, [(100, refusal)]);
    assert_eq!(rabbit.rows().await.len(), 199, "each once");
}

/// GIVEN an exchange that is known WHEN it is deleted under the traffic THEN the channel ends once,
/// nobody is blamed, and from then on what goes there is refused without an end.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_exchange_ends_the_channel_once() {
    let rabbit = Rabbit::new("fault", "classic").await;
    let doomed = Rabbit::new("doomed", "classic").await;
    let routes = vec![amqp::route(&rabbit.exchange, vec![]), amqp::route(&doomed.exchange, vec![])];
    let mut driver = Driver::connect(amqp::target(amqp::config(), routes)).await;
    let to_doomed = |id| Submission { route: 1, ..submission(parts(id, "good.a")) };
    driver.publish_all([submission(parts(1, "good.a")), to_doomed(2)], 10).await;
    assert_eq!(driver.outcomes.confirmed.len(), 2);

    let options = ExchangeDeleteOptions::default();
    let name = doomed.exchange.as_str();
    doomed.channel.exchange_delete(name.into(), options).await.expect("it is deleted");
    driver.submit(to_doomed(3));
    assert_eq!(driver.broken().await.suspect, Some(Reaction::Park(Trouble::Missing)));
    driver.target.disconnect().await;
    driver.reconnect().await;
    let again = [to_doomed(3), submission(parts(4, "good.a")), to_doomed(5)];
    driver.publish_all(again, 10).await;
    assert_eq!(driver.outcomes.confirmed, [4]);
    let refused: Vec<_> = driver.outcomes.refused.iter().map(|(id, r)| (*id, r.reaction)).collect();
    let missing = Reaction::Park(Trouble::Missing);
    assert_eq!(refused, [(3, missing), (5, missing)]);
}

/// GIVEN a probe for a destination in each state WHEN it is submitted among others THEN it is tried
/// alone, and its answer is its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_harms_nobody() {
    let rabbit = Rabbit::new("probe", "classic").await;
    let missing = unique("missing");
    let routes = vec![amqp::route(&rabbit.exchange, vec![]), amqp::route(&missing, vec![])];
    let mut driver = Driver::connect(amqp::target(amqp::config(), routes)).await;
    let probe =
        |id, topic, route| Submission { probe: true, route, ..submission(parts(id, topic)) };
    for id in 1..=100 {
        driver.submit(match id {
            50 => probe(id, "good.a", 1),
            60 => probe(id, "bad", 0),
            70 => probe(id, "good.b", 0),
            _ => submission(parts(id, "good.a")),
        });
    }
    driver.settle().await;
    assert_eq!(driver.outcomes.confirmed.len(), 98);
    driver.outcomes.refused.sort_by_key(|(id, _)| *id);
    let refused: Vec<_> = driver.outcomes.refused.iter().map(|(id, r)| (*id, r.reaction)).collect();
    let park = |trouble| Reaction::Park(trouble);
    assert_eq!(refused, [(50, park(Trouble::Missing)), (60, park(Trouble::Unroutable))]);
    let mut rows = rabbit.rows().await;
    rows.sort_unstable();
    assert!(rows.into_iter().eq((1..=100).filter(|id| ![50, 60].contains(id))));
}

/// GIVEN a thousand missing exchanges among good rows WHEN they are submitted THEN every good row is
/// confirmed, the others are refused, the broker was asked about few, and the channel has not ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_missing_exchanges_end_no_channel() {
    let rabbit = Rabbit::new("flood", "classic").await;
    let routes = vec![amqp::route(&rabbit.exchange, vec![]), amqp::route("{{ topic }}", vec![])];
    let mut driver = Driver::connect(amqp::target(amqp::config(), routes)).await;
    let prefix = unique("nx");
    for id in 1..=2_000 {
        let good = id % 2 == 0;
        let topic = if good { "good.a".to_owned() } else { format!("{prefix}.{id}") };
        let row = Parts { key: None, ..parts(id, &topic) };
        driver.submit(Submission { route: usize::from(!good), ..submission(row) });
    }
    driver.settle().await;
    driver.outcomes.confirmed.sort_unstable();
    assert!(driver.outcomes.confirmed.iter().copied().eq((1..=1_000).map(|n| 2 * n)));
    let missing = |r: &Refusal| r.reaction == Reaction::Park(Trouble::Missing);
    let asked = driver.outcomes.refused.iter().filter(|(_, refusal)| missing(refusal)).count();
    assert!((1..500).contains(&asked), "{asked}");
    assert_eq!(driver.outcomes.refused.len(), 1_000);
    assert_eq!(rabbit.rows().await.len(), 1_000, "each once");
}

/// GIVEN rows of one key, the first of them to an exchange that nothing is known of yet WHEN they are
/// submitted THEN they enter in their order.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_row_that_waits_for_a_look_holds_its_key() {
    let rabbit = Rabbit::new("order", "classic").await;
    let routes = vec![
        amqp::route(&rabbit.exchange, vec![]),
        // The same exchange by another way: it has to be looked for.
        amqp::route("{{ headers.to }}", vec![]),
    ];
    let other = Rabbit::new("order", "classic").await;
    let bind = QueueBindOptions::default();
    let (queue, exchange) = (rabbit.queue.as_str(), other.exchange.as_str());
    let none = FieldTable::default();
    let bound = other.channel.queue_bind(queue.into(), exchange.into(), "#".into(), bind, none);
    bound.await.expect("a binding");
    let mut driver = Driver::connect(amqp::target(amqp::config(), routes)).await;
    driver.publish_all([submission(parts(1, "good.a"))], 10).await;
    let headers = format!(r#"{{"to": "{exchange}"}}"#);
    for id in 2..=100 {
        let row = Parts { key: Some("k"), headers: Some(&headers), ..parts(id, "good.a") };
        driver.submit(Submission { route: usize::from(id % 7 == 2), ..submission(row) });
    }
    driver.settle().await;
    assert!(rabbit.rows().await.into_iter().eq(1..=100));
}

/// GIVEN a queue at its limit that rejects WHEN rows are nacked THEN that is the destination's trouble.
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
        assert_eq!(refusal.reaction, Reaction::Park(Trouble::Refuses));
        assert!(refusal.reason.contains("look at its length limit"), "{}", refusal.reason);
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
    assert_eq!(driver.outcomes.refused[0].1.reaction, Reaction::Park(Trouble::Unroutable));
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
