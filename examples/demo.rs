//! The main job on real parts: orders are committed, the relay is killed twice on the way, and one
//! table says what reached each broker. `./dev demo` starts the services and runs this.

#![allow(
    clippy::disallowed_methods,
    reason = "it reads rows of its own making; a test of docs looks for the other methods"
)]

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use support::checker::{Committed, Delivery, Report, check};
use support::consumer::{AmqpDestination, Consumer, Destination, KafkaDestination, QueueKind};
use support::database::Database;
use support::relay::{RelayProcess, RelayStart, program};
use support::rng::seed;
use support::services::Services;
use support::writer::{Plan, Writer};
use tokio::process::Command;

// The tests use the rest of it. An inline module, so that it finds its own files beside it.
#[allow(dead_code, unused_imports)]
#[path = "../tests"]
mod tests {
    pub(crate) mod support;
}
use tests::support;

const ORDERS: usize = 20_000;
/// Of each connection between two transactions: a stream of orders, not a backlog.
const PAUSE: Duration = Duration::from_millis(4);
/// Exchange, queue and topic of `config/demo.toml`.
const DESTINATION: &str = "orders";
const PARTITIONS: i32 = 3;
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/demo.toml");
/// Without anything new for so long, what is missing counts as lost.
const QUIET: Duration = Duration::from_secs(20);
/// Between two looks at the counters.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> ExitCode {
    let database = Database::create_empty_on(&Services::postgres()).await;
    step("outbox-relay migrate");
    migrate(&database).await;

    step("exchange and queue `orders` in RabbitMQ, topic `orders` in Kafka");
    let amqp = AmqpDestination::create(&Services::amqp(), DESTINATION, QueueKind::Classic).await;
    let kafka = KafkaDestination::create(&Services::kafka(), DESTINATION, PARTITIONS).await;
    let consumers = [
        ("RabbitMQ", Consumer::start(Destination::Amqp(amqp))),
        ("Kafka", Consumer::start(Destination::Kafka(kafka))),
    ];

    step("outbox-relay run, as a role that may only relay");
    let relay_url = database.url_as(&database.create_relay().await);
    let mut relay = start(&relay_url).await;

    step(&format!(
        "{ORDERS} orders over 200 keys, in concurrent transactions, 1 in 10 rolled back"
    ));
    let plan = Plan { pause: PAUSE, ..Plan::orders(seed(), ORDERS) };
    let writer = Writer::start(&database, &plan).await;
    for kill_at in [ORDERS / 3, ORDERS * 2 / 3] {
        wait_received(&consumers, kill_at, &|| writer.committed()).await;
        relay.kill().await;
        step("kill -9, and outbox-relay run");
        relay = start(&relay_url).await;
    }
    let committed = || writer.committed();
    wait_received(&consumers, ORDERS, &committed).await;
    let journal = writer.finish().await;
    wait_received(&consumers, journal.len(), &|| journal.len()).await;
    let ended = relay.terminate().await;

    println!("\n{}      rows/s", Report::HEADING);
    let mut exact = ended.success();
    for (name, consumer) in &consumers {
        consumer.drain().await;
        let deliveries = consumer.deliveries();
        let report = check(&journal, &deliveries);
        println!("{} {:>11.0}", report.row(name), rate(&journal, &deliveries));
        exact &= report.is_exact();
    }
    println!("\nlatency: from the writer's commit reply to the consumer, restarts included");
    println!(
        "by hand: ./dev services up, eval \"$(./dev services env)\", then `outbox-relay migrate`,"
    );
    println!(
        "         an INSERT and `outbox-relay run` as in README.md, \"Use it with your database\""
    );
    if exact { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn migrate(database: &Database) {
    let mut command = Command::new(program());
    command.args(["migrate", "--config", CONFIG]).envs(environment(&database.url));
    let output = command.output().await.expect("the relay's program can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn start(database_url: &str) -> RelayProcess {
    let mut start = RelayStart::with_file(Path::new(CONFIG));
    for (name, value) in environment(database_url) {
        start = start.env(name, value);
    }
    start.ready().await
}

/// What `config/demo.toml` leaves open.
fn environment(database_url: &str) -> HashMap<&'static str, String> {
    [
        ("DEMO_PG_URL", database_url.to_owned()),
        ("DEMO_AMQP_URL", Services::amqp()),
        ("DEMO_KAFKA", Services::kafka()),
    ]
    .into()
}

/// Shows the counters until every consumer has `count` messages, or nothing moves any more.
async fn wait_received(
    consumers: &[(&str, Consumer)],
    count: usize,
    committed: &impl Fn() -> usize,
) {
    let terminal = std::io::stdout().is_terminal();
    let (mut last, mut moved, mut shown) = (0, Instant::now(), Instant::now());
    loop {
        let received: Vec<usize> = consumers.iter().map(|(_, c)| c.received()).collect();
        let sum = committed() + received.iter().sum::<usize>();
        if sum != last {
            (last, moved) = (sum, Instant::now());
        }
        let done = received.iter().all(|&received| received >= count);
        let over = done || moved.elapsed() > QUIET;
        if terminal || over || shown.elapsed() > Duration::from_secs(2) {
            let counters = consumers.iter().zip(&received);
            let counters: String = counters.map(|((n, _), r)| format!("   {n} {r:>6}")).collect();
            print!("{}   committed {:>6}{counters}", if terminal { "\r" } else { "" }, committed());
            if over || !terminal {
                println!();
            }
            // A terminal that is gone is no reason to stop.
            let _ = std::io::stdout().flush();
            shown = Instant::now();
        }
        if over {
            return;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// From the first commit to the last delivery.
fn rate(journal: &[Committed], deliveries: &[Delivery]) -> f64 {
    let first = journal.iter().filter_map(|c| c.committed_at_us).min().unwrap_or(0);
    let last = deliveries.iter().map(|d| d.received_at_us).max().unwrap_or(first + 1);
    journal.len() as f64 * 1e6 / (last - first).max(1) as f64
}

fn step(what: &str) {
    println!("── {what}");
}
