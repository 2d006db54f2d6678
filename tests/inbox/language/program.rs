//! A consumer as a process: what it says, and how it ends.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::support::patience::wait_for;

pub(super) struct Program {
    child: Child,
    lines: UnboundedReceiver<String>,
    said: Vec<String>,
    _readers: JoinSet<()>,
}

impl Program {
    pub(super) fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.kill_on_drop(true).spawn() {
            Ok(child) => child,
            Err(error) => panic!("{command:?}: {error}\nhint: run ./dev test"),
        };
        let (sender, lines) = unbounded_channel();
        let mut readers = JoinSet::new();
        readers.spawn(read(child.stdout.take().unwrap(), sender.clone()));
        readers.spawn(read(child.stderr.take().unwrap(), sender));
        Self { child, lines, said: Vec::new(), _readers: readers }
    }

    /// Waits until so many of its lines hold these words.
    pub(super) async fn wait_said(&mut self, words: &str, count: usize) {
        while self.said.iter().filter(|line| line.contains(words)).count() < count {
            let Some(line) = wait_for(words, self.lines.recv()).await else {
                panic!("it ended, and did not say {words:?}: {:#?}", self.said);
            };
            self.said.push(line);
        }
    }

    /// As `kill -9` does.
    pub(super) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Ends it as a supervisor does.
    pub(super) async fn stop(mut self) {
        let pid = self.child.id().expect("it runs").to_string();
        let signalled = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        assert!(signalled.success());
        let status = wait_for("the consumer to end", self.child.wait()).await.unwrap();
        assert!(status.success(), "{status}: {:#?}", self.said);
    }
}

async fn read(output: impl AsyncRead + Unpin, lines: UnboundedSender<String>) {
    let mut output = BufReader::new(output).lines();
    while let Ok(Some(line)) = output.next_line().await {
        // Nobody listens any more once the test has what it wants.
        let _ = lines.send(line);
    }
}
