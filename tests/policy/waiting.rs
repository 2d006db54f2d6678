//! Rows that wait for other routes: a template asks for what they lack, or no route takes them.

use crate::support::checker::check;
use crate::support::consumer::{AmqpDestination, Consumer, Destination, QueueKind};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::progress::{assert_nobody_blamed, wait_settled};
use crate::support::relay::{RelayProcess, command};
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::{Stage, unique};
use crate::support::writer::{Batch, committed};

const GOOD: usize = 300;
const LACKING: usize = 60;

/// Keys of the rows that lack something, each with a row behind it.
const KEYS: usize = 20;

/// Waits until so many rows of `retry` are as `condition` says.
async fn wait_retry(session: &Session, condition: &str, rows: usize) {
    let count = format!("SELECT count(*) FROM outbox.retry WHERE {condition}");
    until(condition, async || (session.count(&count).await == rows as i64).then_some(())).await;
}

/// What `hold list`, and then `status`, print.
async fn shown(stage: &Stage) -> [String; 2] {
    let mut shown = [const { String::new() }; 2];
    for (text, arguments) in
        shown.iter_mut().zip([&["hold", "list"][..], &["status", "--sample", "0s"]])
    {
        let output = command(&stage.config, arguments).await;
        assert!(output.status.success(), "{output:?}");
        *text = String::from_utf8_lossy(&output.stdout).into_owned();
    }
    shown
}

/// The orders of the writer lack the header `tenant`; what is not an order is sent as it is.
fn routes(stage: &Stage, tenant: &str) -> String {
    let exchange = stage.exchange();
    format!(
        "[{{ topic = \"other\", exchange = \"{exchange}\" }},
          {{ topic = \"stock.*\", exchange = \"{exchange}\", routing_key = '{tenant}' }},
          {{ topic = \"*\", exchange = \"{exchange}\" }}]"
    )
}

async fn write(session: &Session) {
    Batch::orders(GOOD).write(session).await;
    let stock = Batch {
        topic: "stock.moved",
        key_prefix: "stock",
        keys: KEYS,
        rows: LACKING,
        ..Batch::orders(0)
    };
    stock.write(session).await;
}

/// GIVEN a route whose template asks for a header that some rows lack WHEN the relay runs, is killed and
/// runs again THEN those rows wait under one name, nothing is dead, no other row waits, and with a
/// default in the template all of them arrive in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_what_a_template_asks_for_buries_nothing() {
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let wrong = routes(&stage, "{{ headers.tenant }}");
    let stage = stage.set("target.amqp", "route", wrong).set("target.amqp", "order", "\"strict\"");
    let session = stage.session().await;
    write(&session).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(GOOD).await;
    let name = r#"route 2 (topic "stock.*"): headers.tenant is absent"#;
    let waiting = format!("class = 'parked' AND next_at = 'infinity' AND destination = '{name}'");
    // Per key, the first one waits and the others wait behind it.
    wait_retry(&session, &waiting, KEYS).await;
    wait_retry(&session, "class = 'held'", LACKING - KEYS).await;
    assert_nobody_blamed(&session).await;
    for text in shown(&stage).await {
        assert!(text.contains(name), "{text}");
        assert!(text.contains(r#"default, {{ headers.tenant | "…" }}"#), "{text}");
    }

    // The same routes: nothing is tried.
    relay.kill().await;
    let relay = RelayProcess::start(&stage.config).await;
    write(&session).await;
    stage.wait_received(2 * GOOD).await;
    wait_retry(&session, "class = 'held'", 2 * LACKING - KEYS).await;
    wait_retry(&session, &waiting, KEYS).await;
    assert!(!relay.log().contains("tried again"), "{}", relay.log());
    assert!(relay.terminate().await.success());

    let right = routes(&stage, r#"{{ headers.tenant | "nobody" }}"#);
    let stage = stage.set("target.amqp", "route", right);
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(2 * (GOOD + LACKING)).await;
    wait_settled(&session, 1).await;
    assert!(relay.log().contains("tried again"), "{}", relay.log());
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

/// GIVEN `unrouted = "wait"` WHEN rows of a topic come that no route takes THEN they wait, the others
/// flow, and a run whose routes take the topic sends them in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_what_no_route_takes_waits_for_one() {
    let stage = Stage::new(Database::create().await).await.with_kafka(&Services::kafka()).await;
    let topic = stage.kafka().topic.clone();
    let route = |pattern: &str| format!("[{{ topic = \"{pattern}\", kafka_topic = \"{topic}\" }}]");
    let stage = stage.set("target.kafka", "route", route("order.*")).set(
        "target.kafka",
        "unrouted",
        "\"wait\"",
    );
    let session = stage.session().await;
    write(&session).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(GOOD).await;
    let name = r#"no route takes topic "stock.moved""#;
    let waiting = format!("next_at = 'infinity' AND destination = '{name}'");
    wait_retry(&session, &waiting, KEYS).await;
    wait_retry(&session, "class = 'held'", LACKING - KEYS).await;
    assert_nobody_blamed(&session).await;
    for text in shown(&stage).await {
        assert!(text.contains(name) && text.contains("add a route for it"), "{text}");
    }
    // A crash between the change of the routes and the first mark must not lose the change.
    relay.kill().await;
    let stage = stage.set("target.kafka", "route", route("*"));
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(GOOD + LACKING).await;
    wait_settled(&session, 1).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

/// GIVEN as many rows that wait for a route, and for any, as may WHEN more come THEN those are dead with
/// that reason, and counted; and once some were given up by name, others may wait again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_beyond_the_limit_of_a_route_are_dead() {
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let exchange = stage.exchange();
    let route = format!(
        "[{{ topic = \"order.*\", exchange = \"{exchange}\", routing_key = \"{{{{ key }}}}\" }}]"
    );
    let stage = stage
        .set("target.amqp", "route", route)
        .set("target.amqp", "unrouted", "\"wait\"")
        .set("target.amqp", "waiting_rows_max", "3");
    let session = stage.session().await;
    let insert = "INSERT INTO outbox.message (topic, payload)
                  SELECT topic, 'x' FROM (VALUES ('order.a'), ('stock.a'), ('stock.b')) AS t(topic),
                                         generate_series(1, 4) AS n ORDER BY n";
    session.run(insert).await;
    let relay = RelayProcess::start(&stage.config).await;
    wait_retry(&session, "next_at = 'infinity'", 6).await;
    let dead = async |reason: &str, rows: i64| {
        let count = format!("SELECT count(*) FROM outbox.dead WHERE reason LIKE '{reason}'");
        until(reason, async || (session.count(&count).await == rows).then_some(())).await;
    };
    dead("template: `key` is NULL%waiting_rows_max = 3 %", 1).await;
    dead("no route takes topic%waiting_rows_max = 3 %", 5).await;

    let name = r#"route 1 (topic "order.*"): key is NULL"#;
    let give_up = ["hold", "give-up", "--target", "amqp", "--destination", name];
    let output = command(&stage.config, &[&give_up[..], &["--reason", "keyless"]].concat()).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3 messages went to dead\n");
    dead("given up while it waited for route 1%`key` is NULL%", 3).await;
    // The relay counts again by itself: then rows wait as before.
    until("a row to wait again", async || {
        session.run("INSERT INTO outbox.message (topic, payload) VALUES ('order.a', 'x')").await;
        let waiting = format!("SELECT count(*) FROM outbox.retry WHERE destination = '{name}'");
        (session.count(&waiting).await > 0).then_some(())
    })
    .await;
    assert!(relay.terminate().await.success());
}

/// GIVEN a key whose first row goes to an exchange that no operator will make WHEN a person gives that
/// destination up by name THEN the later rows of the key arrive, in order, and the row is dead with its
/// content, its reason and a record of who decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_goes_on_when_a_missing_destination_is_given_up() {
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let (exchange, missing) = (stage.exchange(), unique());
    let route = format!(
        "[{{ topic = \"hostile\", exchange = \"{missing}\" }},
          {{ topic = \"*\", exchange = \"{exchange}\" }}]"
    );
    let stage = stage.set("target.amqp", "route", route).set(
        "target.amqp",
        "retry_rows_max",
        // `retry` is full as well: nothing new is read before room is made.
        "1",
    );
    let session = stage.session().await;
    let insert =
        "INSERT INTO outbox.message (topic, key, payload) VALUES ('hostile', 'key-1', 'h')";
    session.run(insert).await;
    let relay = RelayProcess::start(&stage.config).await;
    wait_retry(&session, "class = 'parked'", 1).await;
    relay.wait_logged("retry is full").await;
    Batch { keys: 2, ..Batch::orders(GOOD) }.write(&session).await;

    let name = format!("exchange {missing:?}");
    let command_line = ["hold", "give-up", "--target", "amqp", "--destination", &name];
    let dry_run = [&command_line[..], &["--dry-run"]].concat();
    let decided = [&command_line[..], &["--by", "ada", "--reason", "a typing error"]].concat();
    // The row may be on its way to find out at this very moment: then it is left, and said so.
    until("the row to be given up", async || {
        assert!(command(&stage.config, &dry_run).await.status.success());
        let output = command(&stage.config, &decided).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).starts_with("1 messages went").then_some(())
    })
    .await;
    stage.wait_received(GOOD).await;
    wait_settled(&session, 1).await;
    let dead = format!(
        "SELECT count(*) FROM outbox.dead WHERE class = 'given_up' AND payload = 'h'
           AND reason LIKE 'given up while it waited for {name}: %'"
    );
    assert_eq!(session.count(&dead).await, 1);
    let audit = "SELECT count(*) FROM outbox.decision WHERE command = 'hold give-up' AND rows = 1
                   AND decided_by = 'ada' AND reason = 'a typing error'";
    assert_eq!(session.count(audit).await, 1);
    until("the destination not to be parked", async || {
        relay.log().contains("no longer parked").then_some(())
    })
    .await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

/// GIVEN a destination and a header template WHEN the destination works again but the route asks for
/// what the row lacks THEN the row waits for the route, and the destination is not parked any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_is_back_is_told_from_a_route_that_is_wrong() {
    let stage = Stage::new(Database::create().await).await;
    let name = unique();
    let missing =
        AmqpDestination { url: Services::amqp(), exchange: name.clone(), queue: name.clone() };
    let route = |headers: &str| {
        format!("[{{ topic = \"*\", exchange = \"{name}\", headers = {{ {headers} }} }}]")
    };
    let config = stage.config.clone().amqp("amqp", &missing);
    let config = config.set("target.amqp", "retry_backoff_min", "\"50ms\"");
    let session = stage.session().await;
    Batch { keys: 4, ..Batch::orders(20) }.write(&session).await;
    let relay = RelayProcess::start(&config.clone().set("target.amqp", "route", route(""))).await;
    wait_retry(&session, "class IN ('parked', 'held')", 20).await;
    relay.kill().await;
    let wrong = config.clone().set("target.amqp", "route", route("h = \"{{ headers.h }}\""));
    missing.declare_exchange().await.unwrap();
    missing.declare_queue(QueueKind::Classic, "#").await.unwrap();
    let relay = RelayProcess::start(&wrong).await;
    // One row of each key waits for the route; the others are due, behind it.
    let waits = "class = 'parked' AND destination = 'route 1 (topic \"*\"): headers.h is absent'";
    wait_retry(&session, waits, 4).await;
    assert_nobody_blamed(&session).await;
    assert!(relay.terminate().await.success());
    let consumer = Consumer::start(Destination::Amqp(missing));
    let relay = RelayProcess::start(&config.set("target.amqp", "route", route(""))).await;
    consumer.wait_received(20).await;
    wait_settled(&session, 1).await;
    assert!(relay.terminate().await.success());
    consumer.drain().await;
    check(&committed(&session).await, &consumer.deliveries()).assert_exact("amqp");
}
