//! What was read: rows of the outbox, rows of `retry`.

use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::Flow;
use super::item::{Item, UNROUTED};
use crate::config::Unrouted;
use crate::message::Message;
use crate::range::IdRange;

/// A read of the outbox, in one snapshot.
#[derive(Debug)]
pub struct FreshRead {
    /// The number of the last mark that was committed before the read began.
    pub as_of: u64,
    /// Ascending ids.
    pub rows: Vec<FreshRow>,
    /// Ids that were read past and not seen.
    pub opened: Vec<IdRange>,
    /// Unseen ids that are proved dead.
    pub dead: Vec<IdRange>,
    /// Whether nothing visible was left out.
    pub caught_up: bool,
}

/// A row as it was read from the outbox.
#[derive(Debug)]
pub struct FreshRow {
    /// The row.
    pub message: Message,
    /// The route that takes it; `None` = settled without being sent, or it waits for a route.
    pub route: Option<usize>,
    /// Its key had a holding row with a lower id in `retry`, as of the read.
    pub held: bool,
}

/// A row as it was read from `retry`: heads and rows that hold nobody stand for themselves, the
/// followers of a head come right behind it, in order.
#[derive(Debug)]
pub struct RetryRow {
    /// The message's id.
    pub id: i64,
    /// The row; `None` = it is neither in `message` nor in `dead`.
    pub message: Option<Message>,
    /// The route that takes it; `None` = filtered by the routes of today.
    pub route: Option<usize>,
    /// Its ordering key.
    pub key: Option<String>,
    /// Whether later rows of the key wait for it.
    pub holds: bool,
    /// Refusals so far.
    pub attempts: u32,
    /// The replay it belongs to.
    pub replay: Option<Uuid>,
    /// The destination that it waits for, if it is parked.
    pub parked: Option<Arc<str>>,
    /// It may have reached the broker.
    pub sent: bool,
    /// It is dead and holds its key: nobody behind it goes before a person has decided.
    pub poison: bool,
    /// The keeper found it behind an id that had been given up: no route has seen it yet.
    pub late: bool,
    /// False for a follower.
    pub head: bool,
}

/// The gaps of the ledger at the start. Their rows may be earlier ones of keys that have later rows
/// in `retry` (both were in hand when the process ended), so `retry` is served after them.
#[derive(Debug, Clone, Copy)]
pub(super) struct StartGaps {
    pub(super) end: i64,
    pub(super) read: bool,
}

impl Flow {
    /// A read of the outbox came.
    pub fn on_read(&mut self, read: FreshRead, now: Instant) {
        self.as_of = read.as_of;
        let last = read.rows.last().map_or(0, |row| row.message.id());
        if let Some(gaps) = &mut self.start_gaps {
            gaps.read |= read.caught_up || last >= gaps.end;
        }
        read.opened.into_iter().for_each(|range| self.progress.opened(range));
        for row in read.rows {
            self.progress.seen(row.message.id());
            self.on_row(row, read.as_of);
        }
        read.dead.into_iter().for_each(|range| self.progress.dead(range, now));
        self.forget_held();
    }

    fn on_row(&mut self, row: FreshRow, as_of: u64) {
        let route = match row.route {
            Some(route) => route,
            // When its turn comes: those before it in its key go first.
            None if self.policy.unrouted == Unrouted::Wait => UNROUTED,
            None => return self.settle_unrouted(&row.message),
        };
        let unsendable = self.unsendable(&row.message);
        let item = Item::fresh(row, route, as_of);
        match unsendable {
            Some(reason) => self.bury(&item, 0, reason),
            None => self.queue.push_back(item),
        }
    }

    /// Why the row cannot be sent: it could not be read, or its payload was too large to be.
    fn unsendable(&self, message: &Message) -> Option<String> {
        if let Some(reason) = message.unreadable_reason() {
            return Some(format!("the row cannot be read: {reason}"));
        }
        let size = message.oversize_bytes()?;
        let limit = self.policy.row_bytes_max;
        Some(format!("payload of {size} bytes exceeds row_bytes_max = {limit}"))
    }

    /// A read of `retry` came.
    pub fn on_retry_rows(&mut self, rows: Vec<RetryRow>, as_of: u64) {
        let mut head: Option<i64> = None;
        for row in rows {
            if row.head {
                head = None;
            }
            // A read that began before a mark may show what the mark has changed since, and a row
            // in hand is not taken twice. Without its head a follower is not due, and a dead one is not
            // to be sent.
            if self.retrying.knows(row.id) || row.poison || (!row.head && head.is_none()) {
                if let Some(message) = &row.message {
                    self.free_message(message);
                }
                self.retry_wanted |= !row.poison;
                // Those behind it are read again with it: taken now, they would pass it.
                head = None;
                continue;
            }
            self.on_retry_row(row, as_of, &mut head);
        }
        self.retrying.forget(as_of);
        if !self.refused.is_empty() && self.again.is_empty() {
            let waiting = [self.retrying.oldest_as_of(), self.lanes.oldest_as_of(false)];
            let oldest = waiting.into_iter().flatten().fold(as_of, u64::min);
            self.refused.forget(oldest);
        }
    }

    fn on_retry_row(&mut self, mut row: RetryRow, as_of: u64, head: &mut Option<i64>) {
        let parked = row.parked.clone();
        let Some(message) = row.message.take() else {
            self.counters.gone += 1;
            self.retrying.passed(row.id);
            self.progress.resolve(row.id, row.key.as_deref());
            parked.iter().for_each(|name| self.parked.probe_lost(name));
            // The next row of the key is read as a head in its turn.
            return;
        };
        if row.late && row.route.is_none() && self.policy.unrouted == Unrouted::Settle {
            return self.settle_late(&message, row.key.as_deref());
        }
        // Any other row that stands here was wanted once, and its dead copy may be the last there is:
        // what no route takes any more is dead, not settled.
        // Where rows without a route wait, it waits as well.
        let waits = self.policy.unrouted == Unrouted::Wait;
        let unrouted = || format!("no route takes topic {:?} any more", message.topic());
        let illegal = match row.route {
            None if !waits => Some(unrouted()),
            _ => self.unsendable(&message),
        };
        let route = row.route.unwrap_or(UNROUTED);
        let item = Item::again(row, message, route, as_of);
        match (illegal, *head) {
            (None, Some(head)) => self.retrying.take_follower(head, item),
            (None, None) => {
                *head = item.holding_key().is_some().then(|| item.id());
                self.retrying.take_head(item);
            }
            (Some(_), Some(_)) => {
                // Dealt with when it is the head; those behind it wait as long.
                *head = None;
                self.free(&item);
                self.retry_wanted = true;
            }
            (Some(reason), None) => {
                self.bury(&item, item.attempts(), reason);
                parked.iter().for_each(|name| self.parked.probe_lost(name));
            }
        }
    }

    fn forget_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let queued = self.queue.front().map(|item| item.as_of);
        let waiting = [queued, self.lanes.oldest_as_of(true)];
        self.held.forget(waiting.into_iter().flatten().fold(self.as_of, u64::min));
    }
}
