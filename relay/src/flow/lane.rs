//! `order = "strict"`: of each key at most one message is unconfirmed, the others wait in its lane.

use std::collections::{HashMap, VecDeque};

use super::item::Item;

/// The lanes of the keys that have a message on its way.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    keys: HashMap<Box<str>, VecDeque<Item>>,
    /// First in their lane: the one before has been answered.
    ready: VecDeque<Item>,
}

impl Lanes {
    /// Gives the item back if its key is free, which is then taken; else it waits.
    pub(super) fn enter(&mut self, item: Item) -> Option<Item> {
        let Some(key) = item.holding_key() else { return Some(item) };
        if let Some(lane) = self.keys.get_mut(key) {
            lane.push_back(item);
            return None;
        }
        self.keys.insert(key.into(), VecDeque::new());
        Some(item)
    }

    /// The message of the key was answered, or is not to be sent: the next one is ready.
    pub(super) fn leave(&mut self, key: &str) {
        let Some(lane) = self.keys.get_mut(key) else { return };
        match lane.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => {
                self.keys.remove(key);
            }
        }
    }

    /// The next item whose turn has come; its key is taken.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.ready.pop_front()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.keys.values().all(VecDeque::is_empty)
    }

    /// What the oldest read of a waiting item knew of marks, of fresh ones or of those of `retry`.
    pub(super) fn oldest_as_of(&self, fresh: bool) -> Option<u64> {
        let waiting = self.ready.iter().chain(self.keys.values().flatten());
        waiting.filter(|item| item.retry.is_none() == fresh).map(|item| item.as_of).min()
    }
}
