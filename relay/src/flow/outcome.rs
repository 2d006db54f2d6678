//! What became of the messages that were sent.

use std::sync::Arc;

use super::Flow;
use super::decide::{Verdict, decide};
use super::item::Item;
use super::park::Pauses;
use crate::config::OnPoison;
use crate::ledger::{Buried, Class, Due, SetAside};
use crate::message::Resent;
use crate::route::Place;
use crate::target::{Broken, Event, Reaction, Refusal, Ticket, Trouble};

/// Ends of the channel over a destination, with too little confirmed between them, from which on the
/// target's word is not enough: the culprit is looked for among what was in flight.
const DESTINATION_ENDS_MAX: u32 = 5;

impl Flow {
    /// An outcome came.
    pub fn on_event(&mut self, event: Event) {
        match event {
            Event::Confirmed(ticket) => self.on_confirmed(ticket),
            Event::Refused(ticket, refusal) => self.on_refusal(ticket, refusal),
            Event::Broken(broken) => self.on_broken(broken),
        }
    }

    /// The connection is lost: what is in flight is unknown and will be sent again, in order,
    /// before anything else. No attempt is charged, unless one message can be blamed.
    pub fn on_broken(&mut self, broken: Broken) {
        self.connected = false;
        for straggler in self.stragglers.drain() {
            // They are due in `retry` and are read from there again; until then, what was in flight
            // behind them waits as behind a refused one.
            self.retrying.drop_row(straggler.id);
            if let Some(key) = &straggler.key {
                self.refused.insert_straggler(key, straggler.id, straggler.committed);
            }
        }
        let mut flights = self.window.drain();
        if let Some(reaction) = broken.suspect.filter(|reaction| self.is_about_one(*reaction)) {
            if flights.len() == 1
                && let Some(flight) = flights.pop()
            {
                let refusal = Refusal { reaction, reason: broken.reason };
                self.on_refused(flight.item, refusal, true);
            } else {
                self.trial.refused(flights.len());
            }
            flights.iter_mut().for_each(|flight| flight.item.suspect = true);
        }
        for mut flight in flights {
            flight.item.resent = flight.item.resent.or(Some(Resent::Reconnect));
            self.again.push_back(flight.item);
        }
        // What was waiting to be sent again may have been sent first before some of these.
        self.again.make_contiguous().sort_by_key(|item| item.sequence);
    }

    /// Whether one of those in flight has to be found. Of a destination the target knows enough to
    /// refuse its messages the next time, unless that happens again and again.
    fn is_about_one(&mut self, reaction: Reaction) -> bool {
        if !matches!(reaction, Reaction::Park(_)) {
            return true;
        }
        let (ends, confirmed) = self.destination_ends;
        let window = self.policy.window_messages_max as u64;
        let again = self.counters.confirmed < confirmed.saturating_add(window);
        let ends = if again { ends + 1 } else { 1 };
        self.destination_ends = (ends, self.counters.confirmed);
        ends > DESTINATION_ENDS_MAX
    }

    fn on_confirmed(&mut self, ticket: Ticket) {
        let Some(flight) = self.window.take(ticket) else {
            if let Some(straggler) = self.stragglers.take(ticket) {
                self.counters.confirmed += 1;
                self.sent_after_all(straggler.id, None);
                self.resolve(straggler.id, straggler.key.as_deref());
            }
            return;
        };
        self.counters.confirmed += 1;
        self.confirmed_sent_at = self.confirmed_sent_at.max(Some(flight.sent_at));
        let item = flight.item;
        if let Some(name) = &item.probe {
            self.parked.delivered(name);
        }
        self.sent_after_all(item.id(), Some(&item.message));
        match item.retry {
            None => self.progress.settle(item.id()),
            Some(_) => self.resolve(item.id(), item.holding_key()),
        }
        self.leave_lane(&item);
        self.free(&item);
    }

    fn on_refusal(&mut self, ticket: Ticket, refusal: Refusal) {
        if let Some(flight) = self.window.take(ticket) {
            let single = flight.item.suspect && self.trial.is_single();
            self.on_refused(flight.item, refusal, single);
        } else if let Some(straggler) = self.stragglers.take(ticket) {
            // Its row in `retry` falls due by itself and is read from there.
            self.counters.refused += 1;
            self.retrying.drop_row(straggler.id);
        }
    }

    fn on_refused(&mut self, mut item: Item, refusal: Refusal, single: bool) {
        // What a route asks for, no broker was asked about.
        self.counters.refused += u64::from(refusal.reaction != Reaction::Route);
        let setting = self.parked_setting(&item, refusal.reaction);
        let known = setting.map(|name| (name, refusal.reason.clone()));
        match decide(refusal, item.attempts(), single, &self.policy, &mut self.jitter) {
            Verdict::Again => return self.send_again(item, Resent::Retry),
            Verdict::Suspect if known.is_none() => {
                // `window` lost this one already; the others of its batch are still in it.
                self.trial.refused(self.window.messages() + 1);
                item.suspect = true;
                return self.send_again(item, Resent::Retry);
            }
            // Others were refused alone for that: it need not be.
            Verdict::Suspect => {
                let (name, reason) = known.expect("the arm before has the rest");
                self.park_for(&item, name, reason);
            }
            Verdict::ParkFor { setting, reason } => {
                let place = self.place(&item);
                self.park_for(&item, place.setting(setting.as_str()).into(), reason);
            }
            Verdict::Wait { reason } => {
                if let Some(name) = item.probe.take() {
                    self.parked.probe_lost(&name);
                }
                self.wait_for_route(&item, reason);
            }
            Verdict::Park { trouble, reason } => self.park(&item, trouble, reason),
            Verdict::Bury { attempts, reason } => {
                if let Some(name) = item.probe.take() {
                    self.parked.probe_lost(&name);
                }
                self.bury(&item, attempts, reason);
            }
            Verdict::Retry { attempts, due_in, reason } => {
                let row = SetAside {
                    id: item.id(),
                    key: item.key().map(str::to_owned),
                    holds: item.holding_key().is_some(),
                    attempts,
                    due: Due::In(due_in),
                    class: Class::Refused,
                    reason: Some(reason),
                    destination: None,
                    sent: true,
                };
                // The destination is there: it is the message that it did not take.
                if let Some(name) = item.probe.take() {
                    self.parked.works(&name);
                }
                self.insert_refused(&item);
                self.set_aside(&item, row);
            }
        }
        self.leave_lane(&item);
    }

    /// Back to those that are sent before everything else, in the order of their first submission.
    fn send_again(&mut self, mut item: Item, why: Resent) {
        item.resent = item.resent.or(Some(why));
        let place = self.again.partition_point(|other| other.sequence < item.sequence);
        self.again.insert(place, item);
    }

    fn place(&self, item: &Item) -> Place {
        self.routes[item.route].place(&item.message).unwrap_or_default()
    }

    /// The parked setting that has refused this message for certain, although others were refused
    /// with it.
    fn parked_setting(&self, item: &Item, reaction: Reaction) -> Option<Arc<str>> {
        let Reaction::Setting(setting) = reaction else { return None };
        if !setting.is_shown_by(&item.message) {
            return None;
        }
        let name = self.place(item).setting(setting.as_str());
        self.parked.contains(&name).then(|| name.into())
    }

    /// The destination is in trouble: that is not the message's fault.
    fn park(&mut self, item: &Item, trouble: Trouble, reason: String) {
        let place = self.place(item);
        let mut probe = item.probe.clone();
        if let Some(name) = &probe
            && trouble.proves_the_exchange()
            && **name == *place.whole
            && place.whole != place.full
        {
            // The exchange is there, and other routing keys may have no such trouble.
            self.parked.works(name);
            probe = None;
        }
        let name: Arc<str> = match &probe {
            Some(name) => Arc::clone(name),
            None if trouble.is_of_the_exchange() => place.whole.into(),
            None => place.full.into(),
        };
        self.park_as(item, name, probe.is_some(), trouble, reason);
    }

    /// A setting of the destination refuses the message, and the destination takes others.
    fn park_for(&mut self, item: &Item, name: Arc<str>, reason: String) {
        if let Some(probe) = item.probe.as_ref().filter(|probe| **probe != name) {
            // It is there, but for this.
            self.parked.works(probe);
        }
        let is_probe = item.probe.as_ref() == Some(&name);
        self.park_as(item, name, is_probe, Trouble::Setting, reason);
    }

    fn park_as(
        &mut self,
        item: &Item,
        name: Arc<str>,
        is_probe: bool,
        trouble: Trouble,
        reason: String,
    ) {
        let pauses = Pauses { probe: self.policy.probe_backoff, copy: self.policy.retry_backoff };
        let due = self.parked.refused(&name, is_probe, trouble, pauses, &mut self.jitter);
        let row = self.parked_row(item, name, due, Some(reason));
        self.insert_refused(item);
        self.set_aside(item, row);
    }

    pub(super) fn parked_row(
        &mut self,
        item: &Item,
        destination: Arc<str>,
        due: Due,
        reason: Option<String>,
    ) -> SetAside {
        self.counters.parked += 1;
        SetAside {
            id: item.id(),
            key: item.key().map(str::to_owned),
            holds: item.holding_key().is_some(),
            attempts: item.attempts(),
            due,
            class: Class::Parked,
            reason: reason.or_else(|| Some("its destination is parked".into())),
            destination: Some(destination),
            sent: self.may_have_gone(item),
        }
    }

    /// What of its key is in hand behind it, must not pass it.
    pub(super) fn insert_refused(&mut self, item: &Item) {
        if let Some(key) = item.holding_key() {
            self.refused.insert(key, item.id());
        }
    }

    pub(super) fn bury(&mut self, item: &Item, attempts: u32, reason: String) {
        self.counters.buried += 1;
        // The key is held until the burial is committed: after a crash before that the row is
        // pending again, and what was sent behind it would have overtaken it.
        let key = item.holding_key().map(str::to_owned);
        if let Some(key) = &key {
            self.held.set_aside(key);
            self.refused.insert(key, item.id());
        }
        let holds = key.is_some() && self.policy.on_poison == OnPoison::HoldKey;
        let row = Buried { id: item.id(), key, holds, attempts, reason, bare: false };
        if item.retry.is_none() {
            self.progress.bury(row);
        } else {
            self.progress.bury_retry(row);
            self.give_back_followers(item);
        }
        self.free(item);
    }
}
