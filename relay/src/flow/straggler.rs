//! Messages that were sent long before others that are confirmed, without an outcome of their own: one
//! partition is down, or one queue. Their rows stand in `retry`, the ledger goes on without them, and
//! they are not sent again while the first submission may still be answered.

use std::collections::HashMap;

use super::item::Item;
use crate::ledger::{Class, Mark};
use crate::target::Ticket;

/// A message without an outcome; the message itself is not kept.
#[derive(Debug)]
pub(super) struct Straggler {
    pub(super) id: i64,
    pub(super) key: Option<String>,
    bytes: usize,
    /// The mark that committed its row of `retry`.
    pub(super) committed: Option<u64>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Stragglers {
    tickets: HashMap<Ticket, Straggler>,
    by_id: HashMap<i64, Ticket>,
    /// What the client library still holds of them.
    bytes: usize,
}

impl Stragglers {
    pub(super) fn insert(&mut self, ticket: Ticket, item: &Item) {
        let bytes = item.message.cost_bytes();
        self.bytes += bytes;
        self.by_id.insert(item.id(), ticket);
        let key = item.key().map(str::to_owned);
        self.tickets.insert(ticket, Straggler { id: item.id(), key, bytes, committed: None });
    }

    /// Its outcome has come.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Straggler> {
        let straggler = self.tickets.remove(&ticket)?;
        self.bytes -= straggler.bytes;
        self.by_id.remove(&straggler.id);
        Some(straggler)
    }

    /// The connection is lost: no outcome of any of them will come.
    pub(super) fn drain(&mut self) -> Vec<Straggler> {
        self.by_id.clear();
        self.bytes = 0;
        self.tickets.drain().map(|(_, straggler)| straggler).collect()
    }

    /// Mark `number` was committed.
    pub(super) fn marked(&mut self, mark: &Mark, number: u64) {
        for row in mark.set_aside.iter().filter(|row| row.class == Class::Straggler) {
            let straggler = self.by_id.get(&row.id).and_then(|t| self.tickets.get_mut(t));
            if let Some(straggler) = straggler {
                straggler.committed = Some(number);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tickets.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
