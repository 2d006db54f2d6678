//! How the daemon is asked to end: two tokens, so that work stops before bookkeeping does.

use std::io::IsTerminal as _;
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

/// SIGTERM and SIGINT; on a terminal SIGHUP as well, which says that the terminal is closed.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
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
            hang_up: is_on_a_terminal().then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    /// Waits for a signal.
    ///
    /// Cancel safety: a signal that comes while nobody waits is kept.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = received(&mut self.hang_up) => "SIGHUP",
        }
    }
}

/// Signals that end a process which does not know them, and that are sent to other daemons to make
/// them read their configuration or open their log anew.
#[derive(Debug)]
pub struct Ignored {
    hang_up: Option<Signal>,
    user_1: Signal,
    user_2: Signal,
}

impl Ignored {
    /// Listens from now on: none of them ends this process any more.
    ///
    /// # Errors
    /// The operating system's.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hang_up: (!is_on_a_terminal()).then(|| signal(SignalKind::hangup())).transpose()?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Says what to do instead, for as long as the process lives.
    pub async fn tell(mut self) {
        loop {
            let name = tokio::select! {
                () = received(&mut self.hang_up) => "SIGHUP",
                _ = self.user_1.recv() => "SIGUSR1",
                _ = self.user_2.recv() => "SIGUSR2",
            };
            tracing::warn!(
                signal = name,
                "the signal is ignored: restart the relay to have it read a changed configuration; \
                 files of passwords and certificates are read at every connection anyway"
            );
        }
    }
}

fn is_on_a_terminal() -> bool {
    std::io::stderr().is_terminal()
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => signal.recv().await.map_or((), |()| ()),
        None => std::future::pending().await,
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
