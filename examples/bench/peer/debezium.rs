//! Debezium's PostgreSQL connector with its outbox event router, on Kafka Connect standalone.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio_postgres::config::Host;

use crate::support::consumer::KafkaDestination;
use crate::support::database::Database;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tuning {
    Defaults,
    Tuned,
}

/// The table that the router expects, by its default names.
pub(super) const SCHEMA: &str = "
    CREATE TABLE outbox (id uuid PRIMARY KEY, aggregatetype varchar(255) NOT NULL,
        aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload text);
    CREATE PUBLICATION bench FOR TABLE outbox WITH (publish = 'insert')";
/// Named after the database: slots are the server's. A statement of its own, because a slot cannot be
/// made by a transaction that has written.
pub(super) const SLOT: &str =
    "SELECT pg_create_logical_replication_slot(current_database(), 'pgoutput')";

/// What makes it several times as fast as it comes.
const TUNED: [(&str, &str); 5] = [
    ("poll.interval.ms", "10"),
    ("max.batch.size", "16384"),
    ("max.queue.size", "65536"),
    ("producer.override.linger.ms", "5"),
    ("producer.override.batch.size", "1000000"),
];

/// A slot is free when its walsender has noticed that the client is gone.
const SLOT_LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Starts Connect; its offsets stay in `folder`.
pub(super) fn start(folder: &Path, url: &str, topic: &KafkaDestination, tuning: Tuning) -> Child {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let home = variable("OUTBOX_BENCH_CONNECT");
    let file = |name: &str| folder.join(name).display().to_string();
    let worker = [
        ("bootstrap.servers", topic.brokers.clone()),
        ("key.converter", "org.apache.kafka.connect.storage.StringConverter".into()),
        ("value.converter", "org.apache.kafka.connect.storage.StringConverter".into()),
        ("offset.storage.file.filename", file("offsets")),
        ("plugin.path", format!("{home}/plugins")),
        ("connector.client.config.override.policy", "All".into()),
        ("listeners", format!("http://127.0.0.1:{}", free_port())),
    ];
    write(&file("worker.properties"), &worker);
    let mut connector = connector(url, topic);
    if tuning == Tuning::Tuned {
        connector.extend(TUNED.map(|(name, value)| (name, value.to_owned())));
    }
    write(&file("connector.properties"), &connector);
    let log = File::options().create(true).append(true).open(folder.join("connect.log"));
    let log = log.expect("a log can be written");
    Command::new(variable("OUTBOX_BENCH_JAVA"))
        .args(["-Xms256m", "-Xmx1g", "-XX:-UsePerfData"])
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        .args(["-cp", &format!("{home}/jars/*")])
        .arg("org.apache.kafka.connect.cli.ConnectStandalone")
        .args([file("worker.properties"), file("connector.properties")])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be written twice"))
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("Java can be run")
}

fn connector(url: &str, topic: &KafkaDestination) -> Vec<(&'static str, String)> {
    let database: tokio_postgres::Config = url.parse().expect("a url of the bench's own");
    let Some(Host::Tcp(host)) = database.get_hosts().first() else {
        panic!("the url names no TCP host");
    };
    let name = database.get_dbname().unwrap_or_default();
    let password = String::from_utf8_lossy(database.get_password().unwrap_or_default());
    vec![
        ("name", "bench".into()),
        ("connector.class", "io.debezium.connector.postgresql.PostgresConnector".into()),
        ("tasks.max", "1".into()),
        ("database.hostname", host.clone()),
        ("database.port", database.get_ports().first().copied().unwrap_or(5432).to_string()),
        ("database.user", database.get_user().unwrap_or_default().into()),
        ("database.password", password.into_owned()),
        ("database.dbname", name.into()),
        ("topic.prefix", "bench".into()),
        ("table.include.list", "public.outbox".into()),
        ("plugin.name", "pgoutput".into()),
        ("publication.name", "bench".into()),
        ("publication.autocreate.mode", "disabled".into()),
        ("slot.name", name.into()),
        ("snapshot.mode", "no_data".into()),
        ("tombstones.on.delete", "false".into()),
        ("transforms", "outbox".into()),
        ("transforms.outbox.type", "io.debezium.transforms.outbox.EventRouter".into()),
        ("transforms.outbox.route.topic.replacement", topic.topic.clone()),
    ]
}

fn write(file: &str, properties: &[(&str, String)]) {
    let lines: String =
        properties.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    std::fs::write(file, lines).expect("a file can be written");
}

/// Connect's own interface, which nobody asks anything.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("a listener has an address").port()
}

/// Or the server would keep all WAL from here on.
pub(super) async fn drop_slot(database: &Database) {
    let session = database.connect().await;
    let active = "SELECT count(*) FROM pg_replication_slots
                  WHERE slot_name = current_database() AND active";
    while session.count(active).await > 0 {
        tokio::time::sleep(SLOT_LOOK_INTERVAL).await;
    }
    session.run("SELECT pg_drop_replication_slot(current_database()::name)").await;
}
