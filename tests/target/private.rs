//! A broker of a test's own, for what would disturb the others.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use tokio::process::Command;

use super::{service, unique, wait_for};

/// A running (or stopped) broker; killed when dropped.
pub(super) struct Private {
    kind: &'static str,
    folder: PathBuf,
    pub(super) url: String,
}

impl Private {
    /// Starts a fresh `rabbitmq` or `kafka` and waits until it answers.
    pub(super) async fn start(kind: &'static str) -> Self {
        let folder = PathBuf::from(service("OUTBOX_TEST_DIR")).join(unique(kind));
        let mut private = Self { kind, folder, url: String::new() };
        let facts = private.run("start").await;
        let url = facts.lines().find_map(|line| line.strip_prefix("URL="));
        private.url = url.expect("a started broker says where it is").trim_matches('\'').to_owned();
        private
    }

    /// `start`, `stop` or `kill`.
    pub(super) async fn run(&self, action: &str) -> String {
        let mut command = Command::new(service("OUTBOX_TEST_BROKERS"));
        command.args([self.kind, action]).arg(&self.folder);
        output(command).await
    }

    /// RabbitMQ's own tool.
    pub(super) async fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.folder.join("rabbitmqctl"));
        command.args(arguments);
        output(command).await
    }
}

async fn output(mut command: Command) -> String {
    command.stdin(Stdio::null());
    let what = format!("{command:?}");
    let output = wait_for(&what, command.output()).await.expect("the program can be run");
    let Output { status, stdout, stderr } = output;
    assert!(status.success(), "{what}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}

impl Drop for Private {
    fn drop(&mut self) {
        let mut command = std::process::Command::new(service("OUTBOX_TEST_BROKERS"));
        command.args([self.kind, "kill"]).arg(&self.folder);
        // The end of the run ends whatever is left.
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
