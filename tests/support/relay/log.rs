//! What a daemon prints, line by line, while it runs.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::task::JoinSet;

/// The lines so far.
pub(super) struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    readers: JoinSet<()>,
}

impl Log {
    /// Reads both streams until the process ends.
    pub(super) fn follow(child: &mut Child) -> Self {
        let lines = Arc::new(Mutex::default());
        let mut readers = JoinSet::new();
        if let Some(stream) = child.stdout.take() {
            readers.spawn(read(stream, lines.clone()));
        }
        if let Some(stream) = child.stderr.take() {
            readers.spawn(read(stream, lines.clone()));
        }
        Self { lines, readers }
    }

    pub(super) fn text(&self) -> String {
        self.lines.lock().expect("nobody panics while holding the log").join("\n")
    }

    /// Waits until the process has closed both streams.
    pub(super) async fn wait_end(&mut self) {
        while self.readers.join_next().await.is_some() {}
    }
}

async fn read(stream: impl AsyncRead + Unpin, lines: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = stream.next_segment().await {
        let line = String::from_utf8_lossy(&line).into_owned();
        if std::env::var_os("OUTBOX_TEST_LOG").is_some() {
            eprintln!("relay: {line}");
        }
        lines.lock().expect("nobody panics while holding the log").push(line);
    }
}
