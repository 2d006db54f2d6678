//! Probes and metrics over HTTP, as an orchestrator and Prometheus would ask.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::{until, wait_for};
use crate::support::proxy::{Network, Proxy};
use crate::support::relay::{RelayProcess, RelayStart, command, quoted, raw_command};
use crate::support::services::Services;
use crate::support::stage::Stage;
use crate::support::writer::Batch;

/// With a port that the system chooses.
pub(crate) fn listening(stage: Stage) -> Stage {
    stage.set("http", "listen", quoted("127.0.0.1:0"))
}

/// An answer: status and body.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Asks the relay, at the address that its log names.
async fn ask(relay: &RelayProcess, path: &str) -> Answer {
    request(relay, &format!("GET {path} HTTP/1.1\r\nhost: relay\r\n\r\n")).await
}

async fn request(relay: &RelayProcess, text: &str) -> Answer {
    let mut stream = connect(relay).await;
    stream.write_all(text.as_bytes()).await.expect("the relay reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the relay answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer { status: status.expect("a status"), head: head.to_owned(), body: body.to_owned() }
}

async fn connect(relay: &RelayProcess) -> TcpStream {
    TcpStream::connect(address(relay).await).await.expect("it listens")
}

async fn address(relay: &RelayProcess) -> String {
    relay.wait_logged("http: /live").await;
    let log = relay.log();
    let (_, rest) = log.split_once("address=").expect("it says where it listens");
    rest.split_whitespace().next().expect("an address").to_owned()
}

/// The value of a series, as `name{labels}` is written.
async fn value(relay: &RelayProcess, series: &str) -> Option<f64> {
    let Answer { body, .. } = ask(relay, "/metrics").await;
    let mut lines = body.lines();
    lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

async fn wait_value(relay: &RelayProcess, series: &str, expected: f64) {
    let what = format!("{series} to be {expected}");
    until(&what, async || (value(relay, series).await == Some(expected)).then_some(())).await;
}

/// Waits until `/ready` has `text`; everything that it says then.
pub(crate) async fn wait_ready_text(relay: &RelayProcess, text: &str) -> String {
    until(&format!("/ready to say {text:?}"), async || {
        let answer = ask(relay, "/ready").await;
        answer.body.contains(text).then_some(answer.body)
    })
    .await
}

pub(crate) async fn wait_status(relay: &RelayProcess, status: u16) -> String {
    until(&format!("/ready to say {status}"), async || {
        let answer = ask(relay, "/ready").await;
        (answer.status == status).then_some(answer.body)
    })
    .await
}

/// The names that docs/metrics.md has, in its first columns.
fn documented() -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `outbox_relay_"));
    rows.map(|row| format!("outbox_relay_{}", row.split('`').next().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_of_the_page_is_there_and_what_is_confirmed_is_counted() {
    // GIVEN a relay with an inbox to maintain, in the middle of a drain
    let inbox = Database::create_empty_on(&Services::postgres()).await;
    let init = ["inbox", "init", "--url", &inbox.url];
    assert!(raw_command(&init).await.status.success());
    let stage = listening(Stage::both(Database::create().await).await).set(
        "inbox.billing.database",
        "url",
        quoted(&inbox.url),
    );
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    for _ in 0..10 {
        Batch::orders(500).write(&session).await;
        assert_eq!(ask(&relay, "/metrics").await.status, 200);
    }

    // WHEN everything is confirmed
    stage.wait_settled().await;

    // THEN that is what the counters say, for each target
    for target in ["amqp", "kafka"] {
        let of = |name: &str| format!("outbox_relay_{name}{{target=\"{target}\"}}");
        wait_value(&relay, &of("confirmed_total"), 5_000.0).await;
        wait_value(&relay, &of("in_flight_messages"), 0.0).await;
        wait_value(&relay, &of("pending_messages"), 0.0).await;
        wait_value(&relay, &of("read_id"), 5_000.0).await;
        let leading = format!("outbox_relay_state{{target=\"{target}\",state=\"leading\"}}");
        wait_value(&relay, &leading, 1.0).await;
        assert!(value(&relay, &of("marks_total")).await > Some(0.0));
        assert_eq!(value(&relay, &of("refusals_total")).await, Some(0.0));
    }
    wait_value(&relay, "outbox_relay_keeper", 1.0).await;
    wait_value(&relay, "inbox_partitions_ahead{inbox=\"billing\"}", 7.0).await;

    // AND no name of the page is missing
    let Answer { head, body, .. } = ask(&relay, "/metrics").await;
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let names = documented();
    assert!(names.len() > 20);
    for name in names {
        assert!(body.contains(&format!("# TYPE {name} ")), "{name} is not emitted:\n{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_without_its_broker_is_not_ready_and_says_why() {
    // GIVEN a relay at two brokers, which is ready
    let broker = Instance::start(Kind::RabbitMq).await;
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(broker.url(), QueueKind::Classic).await;
    let stage = listening(stage.with_kafka(&Services::kafka()).await);
    let relay = RelayProcess::start(&stage.config).await;
    assert_eq!(wait_status(&relay, 200).await, "amqp: leading\nkafka: leading\n");

    // WHEN one of them is killed
    broker.kill().await;

    // THEN it is alive, and not ready: for this target, with a reason
    let text = wait_status(&relay, 503).await;
    assert!(text.starts_with("amqp: waiting for the broker: "), "{text}");
    assert!(text.ends_with("\nkafka: leading\n"), "{text}");
    assert_eq!(ask(&relay, "/live").await.status, 200);
    let paused = "outbox_relay_state{target=\"amqp\",state=\"paused\"}";
    wait_value(&relay, paused, 1.0).await;

    // AND ready again when it is back
    broker.start_again().await;
    wait_status(&relay, 200).await;
    wait_value(&relay, paused, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_on_a_dead_channel_is_not_ready() {
    // GIVEN a relay whose connection stands, and brings no confirm any more
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let (proxy, through) = Proxy::in_front_of(&Services::amqp()).await;
    let stage = listening(stage)
        .set("target.amqp", "url", quoted(&through))
        .set("target.amqp", "confirm_timeout", quoted("1s"))
        .set("target.amqp", "straggler_after", quoted("1s"))
        .set("target.amqp", "heartbeat", quoted("60s"))
        .set("target.amqp", "connect_timeout", quoted("60s"));
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    wait_status(&relay, 200).await;
    proxy.set(Network::Deaf);

    // WHEN it has something to publish
    Batch::orders(10).write(&session).await;

    // THEN it finds out by itself, and is ready again when the network is
    let text = wait_status(&relay, 503).await;
    assert_eq!(text, "amqp: waiting for the broker: no confirm within confirm_timeout\n");
    proxy.set(Network::Up);
    stage.wait_received(10).await;
    wait_status(&relay, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_whose_broker_blocks_its_publishers_is_not_ready() {
    // GIVEN
    let broker = Instance::start(Kind::RabbitMq).await;
    let stage = Stage::new(Database::create().await).await;
    let stage = listening(stage.with_amqp(broker.url(), QueueKind::Classic).await);
    let relay = RelayProcess::start(&stage.config).await;
    wait_status(&relay, 200).await;
    // WHEN / THEN
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.00001"]).await;
    Batch::orders(10).write(&stage.session().await).await;
    let text = wait_status(&relay, 503).await;
    assert!(text.contains("blocks its publishers"), "{text}");
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await;
    wait_status(&relay, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_ready_and_one_that_waits_for_its_database_is_not() {
    // GIVEN a leader
    let (proxy, stage) = Stage::both(Database::create().await).await.behind_proxy().await;
    let stage = listening(stage);
    let leader = RelayProcess::start(&stage.config).await;
    wait_status(&leader, 200).await;
    // WHEN a second relay comes for one of the targets THEN it stands by, and is ready
    let standby = RelayProcess::start(&stage.config.clone().without("target.kafka")).await;
    assert_eq!(wait_status(&standby, 200).await, "amqp: standby\n");
    let of = "outbox_relay_state{target=\"amqp\",state=\"standby\"}";
    assert_eq!(value(&standby, of).await, Some(1.0));
    assert_eq!(value(&leader, of).await, Some(0.0));
    // WHEN the database is cut off
    proxy.set(Network::Down);
    // THEN
    for relay in [&leader, &standby] {
        // Its pipelines notice it one after the other.
        until("/ready to say what it waits for", async || {
            let answer = ask(relay, "/ready").await;
            let waits = answer.body.starts_with("amqp: waiting for the database: ");
            (answer.status == 503 && waits).then_some(())
        })
        .await;
    }
    assert_eq!(ask(&leader, "/live").await.status, 200);
    proxy.set(Network::Up);
    wait_status(&leader, 200).await;
    wait_status(&standby, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_told_and_may_be_free_after_a_restart() {
    // GIVEN a port that somebody has
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has one");
    let stage = Stage::both(Database::create().await).await;
    let config = stage.set("http", "listen", quoted(&address.to_string())).config;
    // WHEN / THEN
    let output = command(&config, &["run"]).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let expected =
        format!("http.listen = \"{address}\": cannot listen there: Address already in use");
    assert!(text.contains("relay.toml:") && text.contains(&expected), "{text}");
    assert!(text.contains("hint: something else listens there"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_holds_no_content_and_no_secret() {
    // GIVEN a relay that has published, buried and lost everything once
    let (proxy, through) = Proxy::in_front_of(&Services::amqp()).await;
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let stage = listening(stage).set("target.amqp", "url", quoted(&through)).set(
        "source",
        "row_bytes_max",
        quoted("1KiB"),
    );
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    for times in [1, 100] {
        let insert = format!(
            "INSERT INTO outbox.message (topic, key, headers, payload) VALUES
             ('topsecret.topic', 'topsecret-key', '{{\"note\": \"topsecret-header\"}}',
              repeat('topsecret-payload', {times})::bytea)"
        );
        session.run(&insert).await;
    }
    wait_value(&relay, "outbox_relay_buried_total{target=\"amqp\"}", 1.0).await;
    stage.wait_received(1).await;
    proxy.set(Network::Down);
    wait_status(&relay, 503).await;
    // WHEN everything is asked for THEN
    let texts = stage.config.text();
    let passwords = texts.split("://").skip(1).filter_map(|rest| {
        let (user, _) = rest.split_once('@')?;
        Some(user.split_once(':')?.1)
    });
    let secrets: Vec<_> = passwords.chain(["topsecret"]).collect();
    assert!(secrets.len() >= 2);
    for path in ["/live", "/ready", "/metrics", "/topsecre"] {
        let Answer { head, body, .. } = ask(&relay, path).await;
        for secret in &secrets {
            assert!(!head.contains(secret) && !body.contains(secret), "{path}: {head}\n{body}");
        }
    }
    assert_eq!(request(&relay, "POST /ready HTTP/1.1\r\nhost: relay\r\n\r\n").await.status, 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_keeps_nobody_waiting_for_long() {
    // GIVEN more clients than are served at a time, and none of them asks
    let stage = listening(Stage::both(Database::create().await).await);
    let relay = RelayProcess::start(&stage.config).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(connect(&relay).await);
    }
    // WHEN one asks THEN it is answered, once the others have been dropped
    assert_eq!(wait_for("an answer", ask(&relay, "/live")).await.status, 200);
    let mut rest = Vec::new();
    let first = silent.first_mut().expect("there are forty");
    let read = wait_for("the end of a silent connection", first.read_to_end(&mut rest)).await;
    assert!(read.is_err() || rest.is_empty());
    // AND what a request may say is bounded
    let long = format!("GET /live HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(64 * 1024));
    let mut stream = connect(&relay).await;
    // The rest may not be read any more.
    let _ = stream.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = wait_for("an answer", stream.read_to_end(&mut answer)).await;
    assert!(!String::from_utf8_lossy(&answer).contains("alive"));
    assert_eq!(ask(&relay, "/live").await.status, 200);
}

/// How a client keeps a connection without ever asking for something.
#[derive(Debug, Clone, Copy)]
enum Silence {
    /// It connects, and that is all.
    Total,
    /// A piece of the first line.
    HalfALine,
    /// A byte now and then.
    Trickle,
}

impl Silence {
    /// Holds a connection until the relay ends it, and then the next, without end.
    async fn keep(self, address: String) {
        loop {
            let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
            let mut rest = Vec::new();
            match self {
                Self::Total => {}
                Self::HalfALine => {
                    let _ = stream.write_all(b"GET /li").await;
                }
                Self::Trickle => {
                    let (mut read, mut write) = stream.split();
                    let trickle = async {
                        let mut tick = tokio::time::interval(Duration::from_millis(20));
                        let _ = write.write_all(b"GET /live HTTP/1.1\r\nx: ").await;
                        while write.write_all(b"x").await.is_ok() {
                            tick.tick().await;
                        }
                    };
                    tokio::select! {
                        () = trickle => {}
                        _ = read.read_to_end(&mut rest) => {}
                    }
                    continue;
                }
            }
            let _ = stream.read_to_end(&mut rest).await;
        }
    }
}

/// Whether a path is answered with 200.
async fn is_well(address: &str, path: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let request = format!("GET {path} HTTP/1.1\r\nhost: relay\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer).await;
    read.is_ok() && answer.starts_with("HTTP/1.1 200 ")
}

/// Issue 17: with 300 such connections `/live` was answered after 24 s, and an orchestrator would have
/// restarted a healthy relay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_clients_that_ask_nothing_keep_no_probe_waiting() {
    let stage = listening(Stage::both(Database::create().await).await);
    let relay = RelayProcess::start(&stage.config).await;
    wait_status(&relay, 200).await;
    let address = address(&relay).await;
    for silence in [Silence::Total, Silence::HalfALine, Silence::Trickle] {
        // GIVEN 300 clients, each of which connects again as soon as it is sent away
        let mut clients = JoinSet::new();
        for _ in 0..300 {
            clients.spawn(silence.keep(address.clone()));
        }
        // WHEN probes come, one after the other THEN they are answered. Each of them waited for 19 s: all
        // together for longer than this test.
        let probes = async {
            let mut answered = 0;
            while answered < 20 {
                for path in ["/live", "/ready", "/metrics"] {
                    // On a slow machine a probe may itself be silent for a moment.
                    answered += i32::from(is_well(&address, path).await);
                }
            }
        };
        wait_for(&format!("twenty answers beside {silence:?}"), probes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_answers_until_the_last_message_is_settled() {
    // GIVEN a relay whose broker confirms nothing any more
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let (proxy, through) = Proxy::in_front_of(&Services::amqp()).await;
    let stage = listening(stage)
        .set("target.amqp", "url", quoted(&through))
        .set("target.amqp", "confirm_timeout", quoted("1h"))
        .set("shutdown", "grace", quoted("1h"));
    let mut relay = RelayStart::new(&stage.config).ready().await;
    wait_status(&relay, 200).await;
    proxy.set(Network::Deaf);
    Batch::orders(10).write(&stage.session().await).await;
    wait_value(&relay, "outbox_relay_in_flight_messages{target=\"amqp\"}", 10.0).await;
    // WHEN it is told to stop THEN it is alive, and not ready
    relay.signal("TERM").await;
    let text = wait_status(&relay, 503).await;
    assert_eq!(text, "stopping\namqp: leading\n");
    assert_eq!(ask(&relay, "/live").await.status, 200);
    // AND it ends all the same
    relay.signal("TERM").await;
    relay.wait_exit().await;
}

/// GIVEN a target that takes one topic WHEN another is written THEN the keeper's metric counts it, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_no_target_takes_is_counted() {
    let stage = Stage::new(Database::create().await).await.with_kafka(&Services::kafka()).await;
    let route =
        format!("[{{ topic = \"order.*\", kafka_topic = \"{}\" }}]", stage.kafka().topic.clone());
    let stage = listening(stage.set("target.kafka", "route", route));
    let relay = RelayProcess::start(&stage.config).await;
    wait_value(&relay, "outbox_relay_untaken_topics", 0.0).await;
    let session = stage.session().await;
    session.run("SELECT outbox.publish('oder', 'k', 'x') FROM generate_series(1, 9)").await;
    wait_value(&relay, "outbox_relay_untaken_topics", 1.0).await;
    assert!(relay.terminate().await.success());
}
