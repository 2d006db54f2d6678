//! What goes out next.

use std::sync::Arc;
use std::time::Instant;

use super::Flow;
use super::item::{Item, UNROUTED};
use crate::ledger::{Class, Due, SetAside};
use crate::message::Resent;
use crate::target::Submission;

impl Flow {
    /// The next message to hand to the target, if one may go now.
    pub fn next_send(&mut self, now: Instant) -> Option<Submission> {
        if !self.has_room() {
            return None;
        }
        let mut item = if self.careful.is_over() { self.next_item() } else { self.next_careful() }?;
        if item.sequence == 0 {
            self.sequence += 1;
            item.sequence = self.sequence;
        }
        if item.resent.is_some() {
            self.counters.resent += 1;
        }
        let (message, route) = (item.message.clone(), item.route);
        let resent = item.resent.or_else(|| self.takeover(item.id()));
        let replay = item.retry.as_ref().and_then(|retry| retry.replay);
        let probe = item.probe.is_some();
        let ticket = self.window.push(item, now);
        Some(Submission { ticket, message, route, resent, replay, probe })
    }

    fn has_room(&self) -> bool {
        let (messages, stragglers) = (self.window.messages(), self.stragglers.len());
        // What the client library holds counts until it is answered.
        let bytes = self.window.bytes() + self.stragglers.bytes();
        self.connected
            && messages < self.policy.window_messages_max
            && stragglers < self.policy.stragglers_max
            && (bytes < self.policy.window_bytes_max || messages + stragglers == 0)
    }

    /// Whether a crash would send two windows again: what was sent before waits for nobody, fresh rows
    /// wait for a mark, which may wait for a straggler.
    pub(super) fn is_full(&mut self) -> bool {
        let full = self.window.messages() + self.progress.unmarked()
            >= self.policy.window_messages_max * 2;
        self.jammed &= full;
        full && !self.jammed
    }

    pub(super) fn next_item(&mut self) -> Option<Item> {
        while let Some(suspect) = self.again.front().map(|item| item.suspect) {
            if !self.may_go_again(suspect) {
                return None;
            }
            let item = self.again.pop_front()?;
            if let Some(item) = self.unless_overtaking(item) {
                self.trial.joined(suspect);
                return Some(item);
            }
        }
        if self.window.has_suspects() {
            return None;
        }
        self.trial.end();
        while let Some(item) = self.lanes.pop() {
            if let Some(item) = self.admit_in_lane(item) {
                return Some(item);
            }
        }
        // In turn, so that neither a flood of replayed rows nor a backlog starves the other.
        self.retry_turn = !self.retry_turn;
        let first = if self.retry_turn { self.next_retry() } else { self.next_fresh() };
        // A fresh row that is set aside may be what a row of `retry` waited for.
        first.or_else(|| self.next_fresh()).or_else(|| self.next_retry())
    }

    /// Suspects go in their groups, with nothing else in flight.
    fn may_go_again(&mut self, suspect: bool) -> bool {
        if !suspect {
            return !self.window.has_suspects();
        }
        if self.window.messages() == 0 {
            self.trial.begin();
        } else if !self.window.has_suspects() {
            return false;
        }
        self.trial.has_room()
    }

    /// What is sent again waits if an earlier row of its key was refused meanwhile, or its destination
    /// is parked by now.
    fn unless_overtaking(&mut self, mut item: Item) -> Option<Item> {
        // Its key may be held by a later row that was in flight with it: that one waits for it.
        let behind = item.retry.is_none()
            && item.key().is_some_and(|key| self.refused.is_before(key, item.id()));
        if behind {
            if let Some(key) = item.key() {
                // Later rows of the key may stand in `retry` already: this one goes before them.
                self.refused.insert(key, item.id());
            }
            self.hold(&item);
        } else if !self.parks(&mut item) {
            return Some(item);
        }
        self.leave_lane(&item);
        None
    }

    fn next_retry(&mut self) -> Option<Item> {
        if let Some(gaps) = self.start_gaps {
            let unsent = self.queue.front().is_some_and(|item| item.id() < gaps.end);
            if !gaps.read || unsent {
                return None;
            }
            self.start_gaps = None;
        }
        while let Some(item) = self.retrying.pop() {
            if let Some(item) = self.enter_lane(item) {
                return Some(item);
            }
        }
        None
    }

    fn next_fresh(&mut self) -> Option<Item> {
        while !self.is_full()
            && let Some(item) = self.queue.pop_front()
        {
            if let Some(item) = self.enter_lane(item) {
                return Some(item);
            }
        }
        None
    }

    /// Gives the item back if it may be sent. In strict order it may have to wait in its lane, and
    /// whatever is to be said of it is said when its turn comes: set aside now, it would pass those
    /// before it.
    fn enter_lane(&mut self, item: Item) -> Option<Item> {
        if !self.is_strict() {
            return self.admit(item);
        }
        let item = self.lanes.enter(item)?;
        self.admit_in_lane(item)
    }

    /// The item has its key to itself.
    fn admit_in_lane(&mut self, item: Item) -> Option<Item> {
        let message = item.message.clone();
        let holds = item.holding_key().is_some();
        let admitted = self.admit(item);
        if admitted.is_none()
            && holds
            && let Some(key) = message.key()
        {
            self.lanes.leave(key);
        }
        admitted
    }

    pub(super) fn leave_lane(&mut self, item: &Item) {
        if self.is_strict()
            && let Some(key) = item.holding_key()
        {
            self.lanes.leave(key);
        }
    }

    /// Gives the item back if nothing speaks against sending it; else it is set aside, or is read again.
    fn admit(&mut self, mut item: Item) -> Option<Item> {
        if item.retry.is_some() {
            if self.waits_for_refused(&item) {
                // Read again when the refused row stands in `retry`, as the head.
                self.give_back_followers(&item);
                self.retrying.drop_row(item.id());
                self.free(&item);
                self.retry_wanted = true;
                return None;
            }
        } else if self.is_held(&item) {
            self.hold(&item);
            return None;
        }
        (!self.parks(&mut item)).then_some(item)
    }

    fn is_held(&self, item: &Item) -> bool {
        let held = |key| item.held || self.held.holds(key, item.as_of);
        item.key().is_some_and(held)
    }

    fn waits_for_refused(&self, item: &Item) -> bool {
        item.holding_key()
            .is_some_and(|key| self.refused.is_unseen_before(key, item.id(), item.as_of))
    }

    /// Sets a fresh row aside behind an earlier one of its key.
    fn hold(&mut self, item: &Item) {
        if let Some(key) = item.key().filter(|_| self.is_of_the_start(item)) {
            self.refused.insert(key, item.id());
        }
        let row = SetAside {
            id: item.id(),
            key: item.key().map(str::to_owned),
            holds: true,
            attempts: 0,
            due: Due::Head,
            class: Class::Held,
            reason: None,
            destination: None,
            sent: self.may_have_gone(item),
        };
        self.set_aside(item, row);
    }

    /// A row from a gap of the start: later ones of its key may stand in `retry`, read before this one
    /// is there.
    fn is_of_the_start(&self, item: &Item) -> bool {
        self.start_gaps.is_some_and(|gaps| item.id() < gaps.end)
    }

    /// Whether its destination is parked: then it was set aside. The probe may go.
    fn parks(&mut self, item: &mut Item) -> bool {
        if item.route == UNROUTED {
            self.wait_unrouted(item);
            return true;
        }
        if self.parked.is_empty() || item.probe.is_some() {
            return false;
        }
        // Without a destination it is refused by the target, with the reason.
        let Ok(place) = self.routes[item.route].place(&item.message) else { return false };
        let waits_for = item.retry.as_ref().and_then(|retry| retry.parked.clone());
        let mut setting = None;
        if let Some(name) = &waits_for
            && self.parked.contains(name)
        {
            if place.is_named(name) {
                setting = Some(Arc::clone(name));
            } else {
                // The routes have changed: nobody goes there any more.
                self.parked.works(name);
            }
        }
        let Some(name) = self.parked.find(&place).or(setting) else { return false };
        if waits_for.as_ref() == Some(&name) {
            if self.policy.probes_aside && !self.has_key_to_itself(item) {
                self.parked.postpone(&name);
            } else if self.parked.try_probe(&name) {
                item.probe = Some(name);
                return false;
            }
        }
        self.parked.waits(&name);
        let row = self.parked_row(item, name, Due::Never, None);
        if self.may_be_behind_it(item) {
            self.insert_refused(item);
        }
        self.set_aside(item, row);
        true
    }

    /// Whether later rows of its key may be in hand already, and must not pass it.
    pub(super) fn may_be_behind_it(&self, item: &Item) -> bool {
        item.sequence > 0 || item.retry.is_some() || self.is_of_the_start(item)
    }

    /// Whether a probe that goes beside the others can neither overtake an earlier row of its key nor
    /// be overtaken by a later one.
    fn has_key_to_itself(&self, item: &Item) -> bool {
        let Some(key) = item.holding_key() else { return true };
        item.retry.as_ref().is_some_and(|retry| retry.head) && !self.window.has_key(key)
    }

    /// Whether a receiver may have the item: sent again, it has to say so.
    pub(super) fn may_have_gone(&self, item: &Item) -> bool {
        let (last, left) = self.takeover;
        item.sequence > 0 || item.resent.is_some() || (left > 0 && item.id() <= last)
    }

    fn takeover(&mut self, id: i64) -> Option<Resent> {
        let (last, left) = &mut self.takeover;
        if *left == 0 || id > *last {
            return None;
        }
        *left -= 1;
        Some(Resent::Takeover)
    }
}
