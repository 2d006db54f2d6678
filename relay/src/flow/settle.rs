//! What is to be written, and what is known once it is.

use super::Flow;
use super::item::Item;
use crate::ledger::{Class, Due, Mark, SetAside};
use std::time::Instant;

/// How much sooner a straggler is set aside once everybody waits for it.
const IMPATIENCE: u32 = 5;

impl Flow {
    /// Takes what the next mark holds; `None` if there is nothing to write. The caller commits it
    /// and calls `on_marked` before it takes another.
    pub fn take_mark(&mut self, now: Instant) -> Option<Mark> {
        if self.progress.is_crowded() {
            self.set_stragglers_aside(now);
        }
        if self.connected {
            self.parked.watch(now, self.policy.probe_backoff.max * 2);
        }
        let mut mark = self.progress.take_mark(now);
        self.jammed |= mark.is_none() && self.is_full() && !self.window.has_fresh();
        if self.parked.has_work()
            || self.careful.has_work()
            || self.routes_changed
            || self.unrouted.has_work()
            || self.retry_uncounted
            || self.waiting.wants_count(now)
        {
            mark.get_or_insert_default();
        }
        if let Some(mark) = &mut mark {
            self.careful.complete(mark);
            self.parked.complete(mark);
            self.unrouted.complete(mark);
            self.waiting.complete(mark, now);
            mark.count_retry = std::mem::take(&mut self.retry_uncounted);
            // Once nothing is left to be released. A crash before that begins anew with the change.
            mark.routes_tried = self.routes_changed && mark.releases.is_empty();
            self.retrying.mark_taken();
        }
        mark
    }

    /// Mark `number` was committed; numbers rise by one.
    pub fn on_marked(&mut self, mark: &Mark, number: u64) {
        self.progress.marked(mark);
        self.routes_changed &= !mark.routes_tried;
        self.parked.marked(mark);
        self.waiting.marked(mark);
        self.careful.marked(mark);
        self.stragglers.marked(mark, number);
        self.retry_wanted |= !mark.keys.is_empty()
            || !mark.resolved.is_empty()
            || !mark.releases.is_empty()
            || !mark.probes.is_empty();
        for row in &mark.set_aside {
            self.retrying.committed(row.id, number);
            // The row of a burial is counted with the burial.
            if let Some(key) =
                row.key.as_deref().filter(|_| row.holds && row.class != Class::Poison)
            {
                self.held.committed(key, number);
                self.refused.committed(key, row.id, number);
            }
        }
        mark.resolved.iter().for_each(|&id| self.retrying.committed(id, number));
        for row in &mark.buried {
            self.retrying.committed(row.id, number);
            if let Some(key) = &row.key {
                self.held.committed(key, number);
                self.refused.committed(key, row.id, number);
            }
        }
    }

    /// The row goes to `retry`, or stays there; its memory is free.
    pub(super) fn set_aside(&mut self, item: &Item, row: SetAside) {
        if row.holds
            && let Some(key) = &row.key
        {
            self.held.set_aside(key);
        }
        if item.retry.is_none() {
            self.progress.set_aside(row);
        } else {
            self.progress.retry_again(row);
            self.give_back_followers(item);
        }
        self.free(item);
    }

    /// The rows behind one that was not delivered stay in `retry`, until its change is committed
    /// and the next head is due.
    pub(super) fn give_back_followers(&mut self, item: &Item) {
        for follower in self.retrying.refused(item.id()) {
            self.free(&follower);
        }
    }

    /// A row that stands in `retry` was delivered, or is taken by no route.
    pub(super) fn resolve(&mut self, id: i64, key: Option<&str>) {
        self.retrying.passed(id);
        if !self.progress.resolve(id, key) {
            self.retrying.drop_row(id);
            if let Some(key) = key {
                self.held.cancelled(key);
            }
        }
    }

    /// Rows that were sent long before others that are confirmed (one partition is down, say) keep
    /// the ledger in gaps: they go to `retry` without an attempt, and are not sent again while no
    /// outcome has come.
    fn set_stragglers_aside(&mut self, now: Instant) {
        let Some(confirmed) = self.confirmed_sent_at else { return };
        let patience = self.policy.straggler_after;
        let deadline = if self.is_full() {
            // Everybody waits, so nothing younger is confirmed: the clock decides.
            now.checked_sub(patience / IMPATIENCE).map(|at| at.min(confirmed))
        } else {
            confirmed.checked_sub(patience)
        };
        let Some(deadline) = deadline else { return };
        let room = self.policy.stragglers_max.saturating_sub(self.stragglers.len());
        for (ticket, flight) in self.window.take_older(deadline, room) {
            let item = flight.item;
            let key = item.key().map(str::to_owned);
            self.counters.stragglers += 1;
            self.retrying.adopt(item.id());
            self.stragglers.insert(ticket, &item);
            let row = SetAside {
                id: item.id(),
                holds: key.is_some(),
                key,
                attempts: 0,
                due: Due::In(self.policy.confirm_timeout),
                class: Class::Straggler,
                reason: Some("sent, and no outcome yet".into()),
                destination: None,
                sent: true,
            };
            self.set_aside(&item, row);
            self.leave_lane(&item);
        }
    }
}
