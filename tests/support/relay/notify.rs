//! The service manager's end of the notify protocol: a datagram socket that a daemon sends lines to.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Listens from the moment it is bound.
pub(super) struct NotifySocket {
    path: PathBuf,
    received: Arc<Received>,
    _reader: JoinSet<()>,
}

#[derive(Default)]
struct Received {
    lines: Mutex<Vec<String>>,
    count: watch::Sender<usize>,
}

impl NotifySocket {
    pub(super) fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket can be bound in a fresh folder");
        let received = Arc::new(Received::default());
        let mut reader = JoinSet::new();
        reader.spawn(read(socket, received.clone()));
        Self { path: path.into(), received, _reader: reader }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.received.lines.lock().expect("nobody panics while holding the lines").clone()
    }

    /// Waits for a line that starts with `prefix`.
    pub(super) async fn wait(&self, prefix: &str) -> String {
        let mut changes = self.received.count.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(line) = self.lines().into_iter().find(|line| line.starts_with(prefix)) {
                return line;
            }
            changes.changed().await.expect("the socket holds its own sender");
        }
    }
}

async fn read(socket: UnixDatagram, received: Arc<Received>) {
    let mut datagram = [0; 4096];
    while let Ok(len) = socket.recv(&mut datagram).await {
        let text = String::from_utf8_lossy(&datagram[..len]).into_owned();
        let mut lines = received.lines.lock().expect("nobody panics while holding the lines");
        lines.extend(text.lines().map(str::to_owned));
        drop(lines);
        received.count.send_modify(|count| *count += 1);
    }
}
