//! Kafka with SASL: a wrong password at the start, and one that is rotated.

use tokio::process::Command;

use super::rotation::PasswordFile;
use crate::daemon::http::{listening, wait_ready_text, wait_status};
use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::wait_for;
use crate::support::proxy::{Network, Proxy};
use crate::support::relay::{RelayStart, quoted};
use crate::support::services::Services;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

/// A broker with a second listener, behind `proxy`, that wants SCRAM.
struct Scram {
    broker: Instance,
    proxy: Proxy,
}

impl Scram {
    async fn start() -> Self {
        let broker = Instance::start_with(
            Kind::Kafka,
            &[
                "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,BEHIND:SASL_PLAINTEXT",
                "listener.name.behind.sasl.enabled.mechanisms=SCRAM-SHA-256",
                "listener.name.behind.scram-sha-256.sasl.jaas.config=\
                 org.apache.kafka.common.security.scram.ScramLoginModule required;",
            ],
        )
        .await;
        let front = format!("127.0.0.1:{}", port(broker.fact("FRONT")));
        let behind = format!("127.0.0.1:{}", port(broker.fact("BEHIND")));
        let proxy = Proxy::start_at(&front, &behind).await;
        Self { broker, proxy }
    }

    async fn set_password(&self, password: &str) {
        // Kafka's own tool, from where the broker itself has its classes.
        let line = std::fs::read(format!("/proc/{}/cmdline", self.broker.fact("PID")));
        let line = String::from_utf8(line.expect("the broker runs")).expect("it is text");
        let words: Vec<&str> = line.split('\0').collect();
        let at = words.iter().position(|word| *word == "-cp").expect("it has classes");
        let mut command = Command::new(words[0]);
        command.args([
            "-XX:TieredStopAtLevel=1",
            "-cp",
            words[at + 1],
            "kafka.admin.ConfigCommand",
        ]);
        command.args(["--bootstrap-server", self.broker.url(), "--alter"]);
        command.args(["--entity-type", "users", "--entity-name", "relay"]);
        command.args(["--add-config", &format!("SCRAM-SHA-256=[password={password}]")]);
        let output = wait_for("a password to be set", command.output()).await.expect("java");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A stage with a RabbitMQ target as well; Kafka's goes through the proxy, with the password in
    /// a file.
    async fn stage(&self, file: &PasswordFile) -> Stage {
        let stage = Stage::new(Database::create().await).await;
        let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
        let front = format!("127.0.0.1:{}", port(self.broker.fact("FRONT")));
        listening(stage.with_kafka(self.broker.url()).await)
            .set("target.kafka", "brokers", quoted(&front))
            .set("target.kafka", "sasl_mechanism", quoted("SCRAM-SHA-256"))
            .set("target.kafka", "sasl_username", quoted("relay"))
            .set("target.kafka", "sasl_password_file", file.quoted())
    }
}

/// The port of `port` or `host:port`.
fn port(fact: &str) -> &str {
    fact.rsplit(':').next().expect("there is one part at least")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_at_the_start_stops_one_target_until_the_file_is_right() {
    // GIVEN a wrong password for one target
    let kafka = Scram::start().await;
    kafka.set_password("first").await;
    let file = PasswordFile::new("wrong-password");
    let stage = kafka.stage(&file).await;
    let session = stage.session().await;
    Batch::orders(20).write(&session).await;
    // WHEN a relay starts THEN the other target goes on, and this one names the file
    let relay = RelayStart::new(&stage.config).ready().await;
    let text = wait_ready_text(&relay, "kafka: stopped: ").await;
    assert!(text.contains("Authentication failed") && text.contains("secret-file"), "{text}");
    assert!(!text.contains("wrong-password"), "{text}");
    stage.consumers[0].1.wait_received(20).await;
    // AND it goes on when the file is right
    file.write("first");
    stage.wait_received(20).await;
    wait_status(&relay, 200).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_password_makes_a_new_producer() {
    // GIVEN a relay at work
    let kafka = Scram::start().await;
    kafka.set_password("first").await;
    let file = PasswordFile::new("first");
    let stage = kafka.stage(&file).await;
    let session = stage.session().await;
    let relay = RelayStart::new(&stage.config).ready().await;
    Batch::orders(10).write(&session).await;
    stage.wait_received(10).await;

    // WHEN the file is first, and the connections end THEN the password before it does
    file.write("second");
    kafka.proxy.set(Network::Down);
    kafka.proxy.set(Network::Up);
    Batch::orders(10).write(&session).await;
    stage.wait_received(20).await;

    // WHEN the brokers follow THEN the new one is taken
    kafka.set_password("second").await;
    kafka.proxy.set(Network::Down);
    kafka.proxy.set(Network::Up);
    Batch::orders(10).write(&session).await;
    stage.wait_received(30).await;
    wait_status(&relay, 200).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}
