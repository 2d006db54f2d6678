//! Fresh rows that were refused and that no read can know of yet: what of their keys is still in
//! hand, behind them, must not pass them.

use std::collections::{BTreeMap, HashMap};

/// Per key, the refused rows: uncommitted ones, and committed ones while rows that were sent before
/// wait to be sent again, or rows are in hand whose read of `retry` began earlier.
#[derive(Debug, Default)]
pub(super) struct RefusedRows {
    keys: HashMap<Box<str>, BTreeMap<i64, Commit>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Commit {
    Pending,
    /// By this mark.
    Done(u64),
}

impl RefusedRows {
    pub(super) fn insert(&mut self, key: &str, id: i64) {
        self.keys.entry(key.into()).or_default().insert(id, Commit::Pending);
    }

    /// A row without an outcome whose connection is lost; its row of `retry` may be committed already.
    pub(super) fn insert_straggler(&mut self, key: &str, id: i64, committed: Option<u64>) {
        let commit = committed.map_or(Commit::Pending, Commit::Done);
        self.keys.entry(key.into()).or_default().insert(id, commit);
    }

    /// The row stands in `retry` (or `dead`) since mark `number`.
    pub(super) fn committed(&mut self, key: &str, id: i64, number: u64) {
        if let Some(commit) = self.keys.get_mut(key).and_then(|rows| rows.get_mut(&id)) {
            *commit = Commit::Done(number);
        }
    }

    /// Nothing waits to be sent again, and every row of `retry` in hand (or to come) is of a read
    /// that saw the marks up to `oldest_as_of`.
    pub(super) fn forget(&mut self, oldest_as_of: u64) {
        self.keys.retain(|_, rows| {
            rows.retain(|_, commit| !matches!(commit, Commit::Done(n) if *n <= oldest_as_of));
            !rows.is_empty()
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a row of the key with a lower id was refused since rows were last sent again.
    pub(super) fn is_before(&self, key: &str, id: i64) -> bool {
        self.keys.get(key).is_some_and(|rows| rows.range(..id).next().is_some())
    }

    /// The same, of rows that a read of `retry` which saw the marks up to `as_of` may not show.
    pub(super) fn is_unseen_before(&self, key: &str, id: i64, as_of: u64) -> bool {
        let unseen = |commit: &Commit| !matches!(commit, Commit::Done(n) if *n <= as_of);
        self.keys.get(key).is_some_and(|rows| rows.range(..id).any(|(_, commit)| unseen(commit)))
    }
}
