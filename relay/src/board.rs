//! What each pipeline is doing, for the service manager and for people.

use std::collections::BTreeMap;
use std::fmt;

use tokio::sync::watch;

/// The state of one pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not heard of yet.
    Starting,
    /// The database is not there.
    Waiting(String),
    /// Another relay leads.
    Standby,
    /// This relay leads, and the broker is not there.
    Paused(String),
    /// This relay leads and publishes.
    Leading,
    /// It stands still until a person has acted.
    Stopped(String),
}

impl State {
    /// What [`word`](Self::word) can be.
    pub const WORDS: [&str; 6] = ["starting", "waiting", "standby", "paused", "leading", "stopped"];

    /// One word, for programs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting(_) => "waiting",
            Self::Standby => "standby",
            Self::Paused(_) => "paused",
            Self::Leading => "leading",
            Self::Stopped(_) => "stopped",
        }
    }

    /// Why it is kept from its work, if it is.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Waiting(reason) | Self::Paused(reason) | Self::Stopped(reason) => Some(reason),
            Self::Starting | Self::Standby | Self::Leading => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Waiting(_) => f.write_str("waiting for the database"),
            Self::Standby => f.write_str("standby"),
            Self::Paused(_) => f.write_str("waiting for the broker"),
            Self::Leading => f.write_str("leading"),
            Self::Stopped(_) => f.write_str("stopped"),
        }
    }
}

/// One line a pipeline; whoever watches sees every change (though not every state in between).
#[derive(Debug, Clone)]
pub struct Board {
    states: watch::Sender<BTreeMap<String, State>>,
}

impl Board {
    /// A board with every pipeline at `Starting`.
    #[must_use]
    pub fn new<'a>(targets: impl IntoIterator<Item = &'a str>) -> Self {
        let states = targets.into_iter().map(|name| (name.to_owned(), State::Starting)).collect();
        Self { states: watch::Sender::new(states) }
    }

    /// Sets the state of a pipeline.
    pub fn set(&self, target: &str, state: State) {
        self.states.send_if_modified(|states| match states.get_mut(target) {
            Some(old) if *old != state => {
                *old = state;
                true
            }
            _ => false,
        });
    }

    /// Watches.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<BTreeMap<String, State>> {
        self.states.subscribe()
    }
}

/// All states on one line: `lake: leading, orders: standby`.
#[must_use]
pub fn summary(states: &BTreeMap<String, State>) -> String {
    states.iter().map(|(name, state)| format!("{name}: {state}")).collect::<Vec<_>>().join(", ")
}
