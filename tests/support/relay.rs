//! The daemon as a process: started with a configuration file, watched through its notify socket
//! and its log, and ended in every way a process can end.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::patience::{until, wait_for};

mod config;
mod log;
mod notify;

pub(crate) use config::{RELAY_TAG, RelayConfig, quoted};
use log::Log;
use notify::NotifySocket;

/// From the end of a process to the moment when everything that it said is known to have been read.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running daemon; killed when dropped.
pub(crate) struct RelayProcess {
    child: Child,
    log: Log,
    notify: NotifySocket,
    /// Holds the configuration and the socket.
    _folder: TempDir,
}

/// How to start a daemon.
pub(crate) struct RelayStart {
    file: ConfigFile,
    environment: Vec<(String, String)>,
}

/// Where the configuration is.
enum ConfigFile {
    /// To be written.
    Text(String),
    /// There already.
    #[allow(dead_code, reason = "the demo has one")]
    Path(PathBuf),
}

impl RelayStart {
    pub(crate) fn new(config: &RelayConfig) -> Self {
        Self { file: ConfigFile::Text(config.text()), environment: Vec::new() }
    }

    /// With a file as it is.
    #[allow(dead_code, reason = "the demo has one")]
    pub(crate) fn with_file(path: &Path) -> Self {
        Self { file: ConfigFile::Path(path.into()), environment: Vec::new() }
    }

    /// Adds a variable to the environment.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The daemon aborts itself when it passes the named point for the `nth` time.
    pub(crate) fn crash_at(self, point: &str, nth: usize) -> Self {
        self.env("OUTBOX_RELAY_CRASH_POINT", format!("{point}:{nth}"))
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) async fn ready(self) -> RelayProcess {
        let mut relay = self.spawn();
        relay.wait_ready().await;
        relay
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(self) -> RelayProcess {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = match self.file {
            ConfigFile::Path(path) => path,
            ConfigFile::Text(text) => write_config(&folder, &text),
        };
        let notify = NotifySocket::bind(&folder.path().join("notify"));
        let mut child = Command::new(program())
            .args(["run".as_ref(), "--config".as_ref(), file.as_os_str()])
            .env_remove("RUST_BACKTRACE")
            .env("NOTIFY_SOCKET", notify.path())
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program().display()));
        let log = Log::follow(&mut child);
        RelayProcess { child, log, notify, _folder: folder }
    }
}

impl RelayProcess {
    /// Starts a daemon with `config` and waits until it is ready.
    pub(crate) async fn start(config: &RelayConfig) -> Self {
        RelayStart::new(config).ready().await
    }

    /// Waits for READY=1.
    ///
    /// # Panics
    /// With the log, if the daemon ends instead.
    pub(crate) async fn wait_ready(&mut self) {
        self.wait_notified("READY=1").await;
    }

    /// Waits until a datagram on the notify socket has a line that starts with `prefix`; that line.
    ///
    /// # Panics
    /// With the log, if the daemon ends instead.
    pub(crate) async fn wait_notified(&mut self, prefix: &str) -> String {
        let Self { child, notify, log, .. } = self;
        wait_for(prefix, async {
            let status = tokio::select! {
                line = notify.wait(prefix) => return line,
                status = child.wait() => status,
            };
            // What it said before it ended may still be on its way through this process.
            let rest = tokio::time::timeout(LAST_WORDS, notify.wait(prefix)).await;
            rest.unwrap_or_else(|_| {
                panic!("the relay ended ({status:?}) before {prefix}:\n{}", log.text())
            })
        })
        .await
    }

    /// Everything that came over the notify socket so far, line by line.
    pub(crate) fn notified(&self) -> Vec<String> {
        self.notify.lines()
    }

    /// How many of its pipelines it leads, as it says.
    pub(crate) fn leading(&self) -> usize {
        let lines = self.notify.lines();
        let status = lines.iter().rev().find_map(|line| line.strip_prefix("STATUS="));
        status.map_or(0, |status| status.matches(": leading").count())
    }

    /// Waits until its log has `text`.
    pub(crate) async fn wait_logged(&self, text: &str) {
        until(text, async || self.log().contains(text).then_some(())).await;
    }

    /// The log so far, standard output included.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Sends a signal by name: `KILL`, `TERM`, `STOP`, `CONT`.
    pub(crate) async fn signal(&self, name: &str) {
        let Some(pid) = self.child.id() else { return };
        signal(pid, name).await;
    }

    /// Ends it without a warning and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("one's own child can be killed");
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.wait_exit().await
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn wait_exit(&mut self) -> ExitStatus {
        let status = wait_for("the relay to end", self.child.wait()).await;
        self.log.wait_end().await;
        status.expect("one's own child can be waited for")
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the relay runs")
    }

    /// Memory in bytes: what is resident now, and the most that ever was.
    pub(crate) fn memory(&self) -> Memory {
        let pid = self.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        let status = status.expect("/proc shows a running process");
        Memory { resident: field(&status, "VmRSS:"), peak: field(&status, "VmHWM:") }
    }
}

/// Bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) peak: u64,
}

/// Runs another subcommand to its end: `["migrate"]`, `["status", "--json"]`.
pub(crate) async fn command(config: &RelayConfig, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = write_config(&folder, &config.text());
    raw_command(&[arguments, &["--config", &file.to_string_lossy()]].concat()).await
}

/// Runs the program with exactly these arguments.
pub(crate) async fn raw_command(arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    // What a person has exported would stand in the help, or be used.
    for name in [
        "RUST_BACKTRACE",
        "OUTBOX_RELAY_CONFIG",
        "OUTBOX_RELAY_MIGRATE_URL",
        "OUTBOX_RELAY_INBOX_URL",
        "OUTBOX_RELAY_RABBITMQ_MANAGEMENT",
    ] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    wait_for("a command to end", command.output()).await.expect("the program can be run")
}

fn write_config(folder: &TempDir, text: &str) -> PathBuf {
    let file = folder.path().join("relay.toml");
    std::fs::write(&file, text).expect("the configuration can be written");
    file
}

/// Sends a signal by its name.
pub(crate) async fn signal(pid: u32, name: &str) {
    let mut kill = Command::new("kill");
    kill.args([format!("-{name}"), pid.to_string()]);
    let status = kill.status().await.expect("kill can be run");
    assert!(status.success(), "kill -{name} {pid}: {status}");
}

/// The program: the one named by the environment, or the one cargo built for this test.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("OUTBOX_RELAY_BIN")
        .map(PathBuf::from)
        .or_else(|| option_env!("CARGO_BIN_EXE_outbox-relay").map(PathBuf::from))
        .filter(|path| Path::exists(path))
        .expect("OUTBOX_RELAY_BIN names the program; hint: run ./dev test")
}

/// A number of kilobytes from /proc/PID/status, in bytes.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kilobytes| kilobytes * 1024)
}
