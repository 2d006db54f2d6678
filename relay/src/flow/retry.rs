//! Rows of `retry` that are in hand: what was read, what waits behind its head, what is done.

use std::collections::{HashMap, VecDeque};

use super::item::Item;
use crate::config::Order;

/// What is known of a row of `retry` that this process took in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waiting, in flight, or without an outcome.
    InHand,
    /// Its `retry` row will be changed or deleted by a mark to come: a later one than this many.
    Decided(u64),
    /// That was committed by this mark. A read that began earlier may still show the old row.
    Committed(u64),
}

/// Rows of `retry` in hand.
#[derive(Debug, Default)]
pub(super) struct Retrying {
    rows: HashMap<i64, State>,
    /// Ready to be sent.
    ready: VecDeque<Item>,
    /// Followers of a head (by its id), to be sent once it is delivered.
    chains: HashMap<i64, VecDeque<Item>>,
    /// A follower is sent once the one before it is delivered, not once the head is.
    strict: bool,
    /// Marks that were taken so far.
    taken: u64,
}

impl Retrying {
    pub(super) fn new(order: Order) -> Self {
        Self { strict: order == Order::Strict, ..Self::default() }
    }

    /// Whether the row is in hand, or known better than the read that shows it.
    pub(super) fn knows(&self, id: i64) -> bool {
        self.rows.contains_key(&id)
    }

    /// Takes a head, or a row that neither holds nor waits.
    pub(super) fn take_head(&mut self, item: Item) {
        self.rows.insert(item.id(), State::InHand);
        self.ready.push_back(item);
    }

    /// Takes a row that waits for its head.
    pub(super) fn take_follower(&mut self, head: i64, item: Item) {
        self.rows.insert(item.id(), State::InHand);
        self.chains.entry(head).or_default().push_back(item);
    }

    /// A fresh row that is in flight now stands in `retry` as well (a straggler).
    pub(super) fn adopt(&mut self, id: i64) {
        self.rows.insert(id, State::InHand);
    }

    /// The next row to send.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.ready.pop_front()
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The row was delivered, buried or is gone: its followers may go.
    pub(super) fn passed(&mut self, id: i64) {
        self.rows.insert(id, State::Decided(self.taken));
        let mut chain = self.chains.remove(&id).unwrap_or_default();
        if self.strict
            && let Some(next) = chain.pop_front()
        {
            let id = next.id();
            self.ready.push_back(next);
            if !chain.is_empty() {
                self.chains.insert(id, chain);
            }
            return;
        }
        self.ready.extend(chain);
    }

    /// The row was refused: its followers stay in `retry` and are given back. (Those that are ready
    /// already wait because it was: see `RefusedRows`.)
    pub(super) fn refused(&mut self, id: i64) -> VecDeque<Item> {
        self.rows.insert(id, State::Decided(self.taken));
        let chain = self.chains.remove(&id).unwrap_or_default();
        for item in &chain {
            self.rows.remove(&item.id());
        }
        chain
    }

    /// The row is not in hand any more and nothing was decided.
    pub(super) fn drop_row(&mut self, id: i64) {
        self.rows.remove(&id);
    }

    /// A mark was taken: it has all that was decided so far.
    pub(super) fn mark_taken(&mut self) {
        self.taken += 1;
    }

    /// Mark `number`, the last that was taken, was committed, and changed the row. What was decided
    /// meanwhile is for the next one: the row may have been read, sent and confirmed before the news
    /// that it stands in `retry` was heard.
    pub(super) fn committed(&mut self, id: i64, number: u64) {
        if let Some(state) = self.rows.get_mut(&id)
            && let State::Decided(taken) = *state
            && taken < self.taken
        {
            *state = State::Committed(number);
        }
    }

    /// A read that saw the marks up to `as_of` was taken in: older ones cannot come any more.
    pub(super) fn forget(&mut self, as_of: u64) {
        self.rows.retain(|_, state| !matches!(state, State::Committed(number) if *number <= as_of));
    }

    /// What the oldest read of a row that is still to be sent knew of marks.
    pub(super) fn oldest_as_of(&self) -> Option<u64> {
        self.ready.iter().chain(self.chains.values().flatten()).map(|item| item.as_of).min()
    }

    /// Rows in hand, or known better than any read under way.
    pub(super) fn ids(&self) -> Vec<i64> {
        self.rows.keys().copied().collect()
    }

    /// Rows that are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}
