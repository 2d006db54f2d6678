//! Whether the daemon is at its work, from what its pipelines say.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::board::State;
use crate::printable::escaped;

/// The answer to the question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Readiness {
    pub(super) is_ready: bool,
    /// A line for each pipeline, with the reason and the remedy of one that is kept from its work.
    pub(super) text: String,
}

impl Readiness {
    /// A pipeline is at its work while it leads and is connected, and while it stands by. A daemon that
    /// was told to stop is not, whatever it finishes.
    pub(super) fn of(states: &BTreeMap<String, State>, stopping: bool) -> Self {
        let mut ready = Self { is_ready: !stopping, text: String::new() };
        if stopping {
            ready.text.push_str("stopping\n");
        }
        for (target, state) in states {
            ready.is_ready &= matches!(state, State::Leading | State::Standby);
            // Writing to a String does not fail.
            let state = state.to_string();
            let _ = writeln!(ready.text, "{target}: {}", escaped(&state));
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(states: &[State]) -> (bool, String) {
        let named = |(n, state): (usize, &State)| (format!("t{n}"), state.clone());
        let states = states.iter().enumerate().map(named).collect();
        let Readiness { is_ready, text } = Readiness::of(&states, false);
        (is_ready, text)
    }

    #[test]
    fn who_leads_or_stands_by_is_ready() {
        let (is_ready, text) = of(&[State::Leading, State::Standby]);
        assert!(is_ready);
        assert_eq!(text, "t0: leading\nt1: standby\n");
    }

    #[test]
    fn one_that_is_kept_from_its_work_says_by_what() {
        for (state, line) in [
            (State::Starting, "t1: starting\n"),
            (State::Waiting("no\nroute".into()), "t1: waiting for the database: no route\n"),
            (State::Paused("refused".into()), "t1: waiting for the broker: refused\n"),
            (State::Stopped("a CACHE".into()), "t1: stopped: a CACHE\n"),
            (
                State::Refused("no such vhost\nhint: make it".into()),
                "t1: stopped: no such vhost; hint: make it\n",
            ),
        ] {
            let (is_ready, text) = of(&[State::Leading, state]);
            assert!(!is_ready && text == format!("t0: leading\n{line}"), "{text}");
        }
    }

    #[test]
    fn who_was_told_to_stop_is_not() {
        let states = BTreeMap::from([("t".to_owned(), State::Leading)]);
        let ready = Readiness::of(&states, true);
        assert_eq!(ready, Readiness { is_ready: false, text: "stopping\nt: leading\n".into() });
    }
}
