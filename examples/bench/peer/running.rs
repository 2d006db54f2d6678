//! A contestant's process.

use tokio::process::Child;

use crate::support::relay::{RelayProcess, signal};
use crate::usage::Process;

/// Killed when dropped.
pub(super) enum Running {
    Relay(RelayProcess),
    Child(Child),
}

impl Running {
    pub(super) fn process(&self) -> Process {
        match self {
            Self::Relay(relay) => Process(relay.pid()),
            Self::Child(child) => Process(child.id().expect("the process runs")),
        }
    }

    /// Ends it without a warning.
    pub(super) async fn kill(self) {
        match self {
            Self::Relay(relay) => relay.kill().await,
            Self::Child(mut child) => {
                child.kill().await.expect("one's own child can be killed");
            }
        }
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn stop(self) {
        match self {
            Self::Relay(relay) => {
                let ended = relay.terminate().await;
                assert!(ended.success(), "the relay ended with {ended}");
            }
            Self::Child(mut child) => {
                signal(child.id().expect("the process runs"), "TERM").await;
                child.wait().await.expect("one's own child can be waited for");
            }
        }
    }
}
