//! A private instance of a service, for tests that take it away. It keeps its ports and its data.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;
use uuid::Uuid;

use super::patience::wait_for;
use super::relay::signal;
use super::services::Services;

/// What kind of service.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Postgres,
    PgBouncer,
    RabbitMq,
    Kafka,
    /// Three brokers, of which one can be killed.
    Kafka3,
}

/// A running (or stopped) instance; killed when dropped.
pub(crate) struct Instance {
    kind: Kind,
    folder: PathBuf,
    /// What it said when it started, `NAME=value` a line.
    facts: String,
    /// More variables of its environment, also when it starts again.
    environment: String,
}

impl Instance {
    /// Starts a fresh one and waits until it answers.
    pub(crate) async fn start(kind: Kind) -> Self {
        Self::start_with(kind, &[]).await
    }

    /// The same with what `./dev` wants to know of it, or with settings of its own.
    pub(crate) async fn start_with(kind: Kind, arguments: &[&str]) -> Self {
        Self::start_in("", kind, arguments).await
    }

    /// The same with variables of its environment (`NAME=value`, with blanks between them).
    pub(crate) async fn start_in(environment: &str, kind: Kind, arguments: &[&str]) -> Self {
        let folder = Services::folder().join(Uuid::now_v7().simple().to_string());
        let environment = environment.to_owned();
        let mut instance = Self { kind, folder, facts: String::new(), environment };
        instance.facts = instance.run("start", arguments).await;
        instance
    }

    /// Starts a standby that streams from another PostgreSQL of this kind.
    pub(crate) async fn start_replica_of(primary: &Self) -> Self {
        Self::start_with(Kind::Postgres, &[&format!("replica_of={}", primary.url())]).await
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> &str {
        self.fact("URL")
    }

    /// Something else that it said about itself.
    pub(crate) fn fact(&self, name: &str) -> &str {
        let mut facts = self.facts.lines().filter_map(|line| line.split_once('='));
        let found = facts.find_map(|(fact, value)| (fact == name).then_some(value));
        found.unwrap_or_else(|| panic!("a started {} says its {name}", self.kind.name()))
    }

    /// Starts it again and waits until it answers.
    pub(crate) async fn start_again(&self) {
        self.run("start", &[]).await;
    }

    /// Sends a signal to its process: `STOP`, `CONT`.
    pub(crate) async fn signal(&self, name: &str) {
        let file = self.folder.join(format!("{}.pid", self.kind.name()));
        let pid = std::fs::read_to_string(file).expect("a started service has a process");
        signal(pid.trim().parse().expect("a process has a number"), name).await;
    }

    /// Ends one broker of three without a warning.
    pub(crate) async fn kill_node(&self, number: usize) {
        self.run_node(number, "kill").await;
    }

    /// Starts a killed one of three again; one that runs is left alone.
    pub(crate) async fn start_node(&self, number: usize) {
        self.run_node(number, "start").await;
    }

    async fn run_node(&self, number: usize, action: &str) {
        let mut command = Command::new(Services::brokers());
        command.args(["kafka", action]).arg(self.folder.join(number.to_string()));
        output(&format!("broker {number} to {action}"), command).await;
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(&self) {
        self.run("stop", &[]).await;
    }

    /// Ends it without a warning.
    pub(crate) async fn kill(&self) {
        self.run("kill", &[]).await;
    }

    /// What RabbitMQ has logged so far.
    pub(crate) fn rabbitmq_log(&self) -> String {
        let files = std::fs::read_dir(self.folder.join("own/log")).expect("RabbitMQ logs");
        let read = |file: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(file?.path());
        files.map(|file| read(file).expect("a log can be read")).collect()
    }

    /// RabbitMQ's own tool.
    pub(crate) async fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.folder.join("rabbitmqctl"));
        command.args(arguments);
        output(&format!("rabbitmqctl {arguments:?}"), command).await
    }

    async fn run(&self, action: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(Services::brokers());
        command.args([self.kind.name(), action]).arg(&self.folder).args(arguments);
        command.env("OUTBOX_DEV_SERVICE_ENV", &self.environment);
        output(&format!("{} to {action}", self.kind.name()), command).await
    }
}

async fn output(what: &str, mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = wait_for(what, output).await.expect("the program can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Drop for Instance {
    fn drop(&mut self) {
        let mut command = std::process::Command::new(Services::brokers());
        command.args([self.kind.name(), "kill"]).arg(&self.folder);
        // The end of the run ends whatever is left.
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::PgBouncer => "pgbouncer",
            Self::RabbitMq => "rabbitmq",
            Self::Kafka => "kafka",
            Self::Kafka3 => "kafka3",
        }
    }
}
