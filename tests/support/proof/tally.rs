//! How often what happened.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Counters by name, shared by everybody who does or sees something.
#[derive(Default)]
pub(crate) struct Tally {
    counts: Mutex<BTreeMap<String, usize>>,
    problems: Mutex<Vec<String>>,
}

impl Tally {
    pub(crate) fn count(&self, what: &str) {
        let mut counts = self.counts.lock().expect("nobody panics while counting");
        *counts.entry(what.to_owned()).or_default() += 1;
    }

    pub(crate) fn of(&self, what: &str) -> usize {
        let counts = self.counts.lock().expect("nobody panics while counting");
        counts.get(what).copied().unwrap_or_default()
    }

    /// Something that must not happen at all.
    pub(crate) fn problem(&self, what: String) {
        self.problems.lock().expect("nobody panics while noting").push(what);
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.lock().expect("nobody panics while noting").clone()
    }
}
