//! What each pipeline is doing, for the service manager and for people.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use crate::cause::Cause;

/// The state of one pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not heard of yet.
    Starting,
    /// The database is not there.
    Waiting(Cause),
    /// Another relay leads.
    Standby,
    /// This relay leads, and the broker is not there.
    Paused(Cause),
    /// This relay leads and publishes.
    Leading,
    /// It stands still until a person has acted, and looks from time to time whether one has.
    Stopped(Cause),
    /// The same, because the database or the broker refuses what is configured.
    Refused(Cause),
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
            Self::Stopped(_) | Self::Refused(_) => "stopped",
        }
    }

    /// Why it is kept from its work, and the remedy, if it is.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Waiting(cause)
            | Self::Paused(cause)
            | Self::Stopped(cause)
            | Self::Refused(cause) => Some(cause),
            Self::Starting | Self::Standby | Self::Leading => None,
        }
    }
}

/// On one line, with the reason and the remedy of one that is kept from its work.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Waiting(_) => "waiting for the database",
            Self::Standby => "standby",
            Self::Paused(_) => "waiting for the broker",
            Self::Leading => "leading",
            Self::Stopped(_) | Self::Refused(_) => "stopped",
        })?;
        self.cause().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

/// One line a pipeline; whoever watches sees every change (though not every state in between).
#[derive(Debug, Clone)]
pub struct Board {
    states: watch::Sender<BTreeMap<String, State>>,
    /// Whether the process began with nothing that can run; set once, when every pipeline has found
    /// its first place.
    hopeless: Arc<OnceLock<bool>>,
    /// What each pipeline left behind when it ended.
    left: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Board {
    /// A board with every pipeline at `Starting`.
    #[must_use]
    pub fn new<'a>(targets: impl IntoIterator<Item = &'a str>) -> Self {
        let states = targets.into_iter().map(|name| (name.to_owned(), State::Starting)).collect();
        let states = watch::Sender::new(states);
        Self { states, hopeless: Arc::default(), left: Arc::default() }
    }

    /// Something else than pipelines runs in this process: it is never hopeless.
    pub fn more_to_do(&self) {
        let _ = self.hopeless.set(false);
    }

    /// Sets the state of a pipeline; whether it was another one before.
    pub fn set(&self, target: &str, state: State) -> bool {
        self.states.send_if_modified(|states| {
            match states.get_mut(target) {
                Some(old) if *old != state => *old = state,
                _ => return false,
            }
            if states.values().all(|state| *state != State::Starting) {
                let refused = states.values().all(|state| matches!(state, State::Refused(_)));
                // Only the first time: what has once found its place is tried for as long as the
                // process lives.
                let _ = self.hopeless.set(refused);
            }
            true
        })
    }

    /// Nothing at all can run, and nothing ever did: every pipeline was refused as it is configured
    /// before one of them had found another place. What they were refused for, on one line.
    #[must_use]
    pub fn nothing_can_run(&self) -> Option<Cause> {
        self.hopeless.get().copied().filter(|hopeless| *hopeless)?;
        let states = self.states.borrow();
        let mut causes: Vec<&Cause> = states.values().filter_map(State::cause).collect();
        causes.dedup();
        let reasons: Vec<&str> = causes.iter().map(|cause| cause.reason.as_str()).collect();
        let mut hints: Vec<&str> =
            causes.iter().filter_map(|cause| cause.hint.as_deref()).collect();
        hints.dedup();
        Some(Cause::new(reasons.join("; "), hints.join("; ")))
    }

    /// Watches.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<BTreeMap<String, State>> {
        self.states.subscribe()
    }

    /// What a pipeline that has ended leaves, in words.
    pub fn leave(&self, target: &str, left: String) {
        self.left().insert(target.to_owned(), left);
    }

    /// The last word: what was left of each target.
    #[must_use]
    pub fn last_word(&self) -> String {
        let (states, left) = (self.states.borrow(), self.left());
        let of = |(name, state): (&String, &State)| {
            let words = match (left.get(name), state) {
                (Some(left), _) => left.clone(),
                (None, State::Standby) => "another relay leads".to_owned(),
                (None, state) => format!("not known what is pending ({})", state.word()),
            };
            format!("target {name}: {words}")
        };
        let targets: Vec<String> = states.iter().map(of).collect();
        format!("stopped; {}", targets.join("; "))
    }

    fn left(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All states on one line: `lake: leading, orders: standby`.
#[must_use]
pub fn summary(states: &BTreeMap<String, State>) -> String {
    states.iter().map(|(name, state)| format!("{name}: {state}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: &str) -> State {
        State::Refused(Cause::new(reason, "act"))
    }

    #[test]
    fn a_process_is_hopeless_if_every_pipeline_is_refused_at_first() {
        let board = Board::new(["a", "b"]);
        board.set("a", refused("no such vhost"));
        assert_eq!(board.nothing_can_run(), None);
        board.set("b", refused("no such user"));
        let cause = board.nothing_can_run().expect("nothing can run");
        assert_eq!(cause.text(), "no such vhost; no such user\nhint: act");
    }

    #[test]
    fn the_same_refusal_is_told_once() {
        let board = Board::new(["a", "b"]);
        board.set("a", refused("no such database"));
        board.set("b", refused("no such database"));
        assert_eq!(board.nothing_can_run().unwrap().reason, "no such database");
    }

    #[test]
    fn one_that_waits_or_stands_by_is_enough_to_go_on() {
        for place in [State::Waiting("down".into()), State::Standby, State::Leading] {
            let board = Board::new(["a", "b"]);
            board.set("a", refused("no such vhost"));
            board.set("b", place);
            board.set("b", refused("no such user"));
            assert_eq!(board.nothing_can_run(), None);
        }
    }

    #[test]
    fn what_has_found_its_place_is_never_hopeless_again() {
        let board = Board::new(["a"]);
        board.set("a", State::Paused("a limit".into()));
        board.set("a", refused("no such vhost"));
        assert_eq!(board.nothing_can_run(), None);
    }

    #[test]
    fn a_process_that_keeps_an_inbox_has_something_to_do() {
        let board = Board::new(["a"]);
        board.more_to_do();
        board.set("a", refused("no such vhost"));
        assert_eq!(board.nothing_can_run(), None);
    }

    #[test]
    fn the_last_word_says_what_is_left_of_each_target() {
        let board = Board::new(["lake", "mq", "pg"]);
        board.set("lake", State::Standby);
        board.leave("mq", "12 rows pending".into());
        board.set("pg", State::Waiting("down".into()));
        assert_eq!(
            board.last_word(),
            "stopped; target lake: another relay leads; target mq: 12 rows pending; \
             target pg: not known what is pending (waiting)"
        );
    }
}
