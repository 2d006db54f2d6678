//! A private instance of a service, for tests that take it away. It keeps its ports and its data.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;
use uuid::Uuid;

use super::patience::wait_for;
use super::services::Services;

/// What kind of service.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Postgres,
    PgBouncer,
    RabbitMq,
    Kafka,
}

/// A running (or stopped) instance; killed when dropped.
pub(crate) struct Instance {
    kind: Kind,
    folder: PathBuf,
    url: String,
}

impl Instance {
    /// Starts a fresh one and waits until it answers.
    pub(crate) async fn start(kind: Kind) -> Self {
        Self::start_with(kind, &[]).await
    }

    /// The same with what `./dev` wants to know of it, or with settings of its own.
    pub(crate) async fn start_with(kind: Kind, arguments: &[&str]) -> Self {
        let folder = Services::folder().join(Uuid::now_v7().simple().to_string());
        let mut instance = Self { kind, folder, url: String::new() };
        let facts = instance.run("start", arguments).await;
        let url = facts.lines().find_map(|line| line.strip_prefix("URL="));
        instance.url = url.expect("a started service says where it is").to_owned();
        instance
    }

    /// Starts a standby that streams from another PostgreSQL of this kind.
    pub(crate) async fn start_replica_of(primary: &Self) -> Self {
        let folder = Services::folder().join(Uuid::now_v7().simple().to_string());
        let mut instance = Self { kind: Kind::Postgres, folder, url: String::new() };
        let facts = instance.run("start", &[&format!("replica_of={}", primary.url)]).await;
        let url = facts.lines().find_map(|line| line.strip_prefix("URL="));
        instance.url = url.expect("a started service says where it is").to_owned();
        instance
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Starts it again and waits until it answers.
    pub(crate) async fn start_again(&self) {
        self.run("start", &[]).await;
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
        }
    }
}
