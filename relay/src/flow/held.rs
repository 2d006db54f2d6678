//! Keys whose later rows wait.
//!
//! Rows of a held key stand in `retry`, so each read says which of its keys are held. What it
//! cannot know is what was set aside since it began: that is remembered here until a read begun
//! after the commit has come, so the memory is bounded by the reads under way, not by the rows held.

use std::collections::HashMap;

#[derive(Debug, Clone, Copy, Default)]
struct Change {
    /// Rows of the key that were set aside and are not committed yet.
    pending: u32,
    /// The mark that committed the last of those that are.
    committed: u64,
}

/// Keys that were set aside more recently than some read began.
#[derive(Debug, Default)]
pub(super) struct HeldKeys {
    changes: HashMap<Box<str>, Change>,
}

impl HeldKeys {
    /// A row of the key was set aside; a mark will commit it.
    pub(super) fn set_aside(&mut self, key: &str) {
        match self.changes.get_mut(key) {
            Some(change) => change.pending += 1,
            None => {
                self.changes.insert(key.into(), Change { pending: 1, committed: 0 });
            }
        }
    }

    /// Mark `number` committed one set-aside row of the key.
    pub(super) fn committed(&mut self, key: &str, number: u64) {
        if let Some(change) = self.changes.get_mut(key) {
            change.pending = change.pending.saturating_sub(1);
            change.committed = change.committed.max(number);
        }
    }

    /// A set-aside row was delivered before any mark took it.
    pub(super) fn cancelled(&mut self, key: &str) {
        if let Some(change) = self.changes.get_mut(key) {
            change.pending = change.pending.saturating_sub(1);
        }
    }

    /// Whether a read that saw the marks up to `as_of` may have missed that the key is held.
    pub(super) fn holds(&self, key: &str, as_of: u64) -> bool {
        !self.changes.is_empty()
            && self.changes.get(key).is_some_and(|c| c.pending > 0 || c.committed > as_of)
    }

    /// Forgets what every read from now on (and every row still in hand) knows by itself.
    pub(super) fn forget(&mut self, oldest_as_of: u64) {
        self.changes.retain(|_, c| c.pending > 0 || c.committed > oldest_as_of);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
