//! What the README takes for granted: servers of its own, the roles and destinations that it names,
//! and somebody who types.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::consumer::{
    AmqpDestination, Consumer, Destination, KafkaDestination, QueueKind,
};
use crate::support::instance::{Instance, Kind};
use crate::support::patience::{until, wait_for};
use crate::support::relay::program;
use crate::support::session::Session;

pub(super) struct Scene {
    /// `outbox-relay run`, in a terminal of its own; before the servers, so that it ends first.
    relay: Option<Child>,
    postgres: Instance,
    rabbitmq: Instance,
    kafka: Instance,
    /// As the superuser, in the application's database.
    session: Session,
    consumers: Vec<Consumer>,
    folder: TempDir,
    /// What was exported.
    environment: Vec<(String, String)>,
}

impl Scene {
    pub(super) async fn set() -> Self {
        let (postgres, rabbitmq, kafka) = tokio::join!(
            Instance::start(Kind::Postgres),
            Instance::start(Kind::RabbitMq),
            Instance::start(Kind::Kafka)
        );
        let session = application(&postgres).await;
        rabbitmq.rabbitmqctl(&["add_user", "relay", "secret"]).await;
        rabbitmq
            .rabbitmqctl(&[
                "set_permissions",
                "relay",
                "^outbox-relay[.]fence[.]",
                "^orders$",
                "^$",
            ])
            .await;
        let amqp = AmqpDestination::create(rabbitmq.url(), "orders", QueueKind::Classic).await;
        let topic = KafkaDestination::create(kafka.url(), "order.placed", 1).await;
        let consumers = vec![
            Consumer::start(Destination::Amqp(amqp)),
            Consumer::start(Destination::Kafka(topic)),
        ];
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        fs::write(folder.path().join("pg-password"), "secret\n").expect("a file can be written");
        Self {
            postgres,
            rabbitmq,
            kafka,
            session,
            consumers,
            folder,
            environment: Vec::new(),
            relay: None,
        }
    }

    /// The text with addresses in the place of `localhost`.
    fn placed(&self, text: &str) -> String {
        text.replace("@localhost/app", &format!("@{}/app", address(self.postgres.url())))
            .replace("@localhost/%2f", &format!("@{}/%2f", address(self.rabbitmq.url())))
            .replace("localhost:9092", self.kafka.url())
    }

    pub(super) fn write_config(&self, text: &str) {
        let path = self.folder.path().join("relay.toml");
        fs::write(path, self.placed(text)).expect("a file can be written");
    }

    pub(super) async fn sql_as_app(&self, text: &str) {
        let url = format!("postgres://app:secret@{}/app", address(self.postgres.url()));
        Session::connect(&url).await.run(text).await;
    }

    pub(super) async fn shell(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.is_empty()) {
            let line = self.placed(line);
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                // This is one of them.
                ["./dev", command, ..] => assert_dev_knows(command).await,
                ["export", assignment] => {
                    let (name, value) = assignment.split_once('=').expect("NAME=VALUE");
                    self.environment.push((name.into(), value.into()));
                }
                ["outbox-relay", "run", ..] => {
                    let mut command = self.command(&line);
                    command.stdout(Stdio::null()).stderr(Stdio::null());
                    self.relay = Some(command.spawn().expect("a shell can be run"));
                    self.wait_arrived().await;
                }
                ["outbox-relay", "dead", what, ..] => {
                    self.bury().await;
                    self.run(&line).await;
                    if *what == "requeue" {
                        self.wait_sent_again().await;
                    }
                }
                _ => self.run(&line).await,
            }
        }
    }

    async fn run(&self, line: &str) {
        let output = wait_for(line, self.command(line).output()).await;
        let output = output.expect("a shell can be run");
        assert!(output.status.success(), "{line}: {output:?}");
    }

    fn command(&self, line: &str) -> Command {
        let program = program();
        let programs = program.parent().unwrap_or(Path::new("."));
        let path = format!("{}:/usr/bin:/bin", programs.display());
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("exec {line}")])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", path)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn wait_arrived(&self) {
        for consumer in &self.consumers {
            consumer.wait_received(1).await;
        }
    }

    /// The message of the example has arrived once at each broker, and the requeued one at RabbitMQ.
    pub(super) async fn assert_arrived(&self) {
        for (consumer, count) in self.consumers.iter().zip([2, 1]) {
            consumer.drain().await;
            assert_eq!(consumer.deliveries().len(), count);
        }
    }

    async fn wait_sent_again(&self) {
        self.consumers[0].wait_received(2).await;
        until("the requeued message to be settled", async || {
            (self.session.count("SELECT count(*) FROM outbox.dead").await == 0).then_some(())
        })
        .await;
    }

    /// A dead message of the id in the example.
    async fn bury(&self) {
        let dead = "
             INSERT INTO outbox.dead (id, target, message_id, attempts, class, reason, topic, created_at)
             VALUES (4711, 'orders', outbox.uuidv7(), 1, 'refused', 'why', 'order.odd', now())
             ON CONFLICT DO NOTHING";
        self.session.run(dead).await;
    }
}

/// The application as the README finds it: an owner, two roles that own nothing, a table.
async fn application(postgres: &Instance) -> Session {
    let session = Session::connect(postgres.url()).await;
    for role in ["owner", "app", "relay"] {
        session.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
    }
    session.run("CREATE DATABASE app OWNER owner").await;
    let url = format!("postgres://owner:secret@{}/app", address(postgres.url()));
    let owner = Session::connect(&url).await;
    owner
        .run(
            "CREATE TABLE orders (id bigint PRIMARY KEY, state text);
             INSERT INTO orders VALUES (7, 'new');
             GRANT SELECT, UPDATE ON orders TO app",
        )
        .await;
    let server = postgres.url().strip_suffix("/postgres").expect("the url names a database");
    Session::connect(&format!("{server}/app")).await
}

/// `host:port` of a url.
fn address(url: &str) -> &str {
    let rest = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    rest.split_once('/').map_or(rest, |(address, _)| address)
}

async fn assert_dev_knows(command: &str) {
    let mut help = Command::new(super::repository().join("dev"));
    let output = help.arg("help").output().await.expect("the script can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&format!("./dev {command} ")), "{text}");
}
