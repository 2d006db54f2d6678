//! How the daemon is asked to end: two tokens, so that work stops before bookkeeping does.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What every task looks at.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Take nothing new; finish what is in hand and settle what is confirmed.
    pub stop: CancellationToken,
    /// Give up what is not confirmed; what is confirmed is settled all the same.
    pub abort: CancellationToken,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// The operating system's.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for a signal.
    ///
    /// Cancel safety: a signal that comes while nobody waits is kept.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Turns signals into tokens: the first stops, the grace period or a second signal aborts.
pub async fn escalate(mut signals: Signals, shutdown: Shutdown, grace: Duration) {
    tokio::select! {
        name = signals.next() => tracing::info!(signal = name, "stopping: finishing what is in hand"),
        () = shutdown.stop.cancelled() => {}
    }
    shutdown.stop.cancel();
    tokio::select! {
        name = signals.next() => tracing::warn!(signal = name, "stopping at once"),
        () = tokio::time::sleep(grace) => tracing::warn!("the grace period is over: stopping at once"),
    }
    shutdown.abort.cancel();
}
