//! The pure core of a pipeline: it knows no database and no broker.
//!
//! Events come in (rows read, outcomes, marks committed, the clock), commands are taken out
//! (`next_send`, `take_mark`). It owns the order per key, the window, what is sent again after a
//! loss of the connection, and what a refusal means.

mod backoff;
mod decide;
mod held;
mod item;
mod refused;
mod retry;
#[cfg(test)]
mod simulator;
mod window;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

pub use backoff::{Backoff, Jitter};

use crate::ledger::progress::{GAPS_MAX, Progress};
use crate::ledger::{Buried, Class, Mark, SetAside};
use crate::message::{Message, Resent};
use crate::range::IdRange;
use crate::target::{Broken, Event, Refusal, Submission, Ticket};
use decide::{Verdict, decide};
use held::HeldKeys;
use item::{Item, RetryState};
use refused::RefusedRows;
use retry::Retrying;
use window::Window;

/// The rules of one target.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Messages in flight.
    pub window_messages_max: usize,
    /// Bytes in flight; one message is sent whatever its size.
    pub window_bytes_max: usize,
    /// Refusals before a message is buried.
    pub attempts_max: u32,
    /// Pauses of a refused message.
    pub retry_backoff: Backoff,
    /// See `TargetConfig::confirm_timeout`.
    pub confirm_timeout: Duration,
    /// See `TargetConfig::straggler_after`.
    pub straggler_after: Duration,
    /// See `TargetConfig::stragglers_max`.
    pub stragglers_max: usize,
    /// The limit that an oversize row exceeded, for its reason.
    pub row_bytes_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            window_messages_max: 10_000,
            window_bytes_max: 64 << 20,
            attempts_max: 10,
            retry_backoff: Backoff { min: Duration::from_secs(1), max: Duration::from_secs(300) },
            confirm_timeout: Duration::from_secs(30),
            straggler_after: Duration::from_secs(5),
            stragglers_max: 10_000,
            row_bytes_max: 8 << 20,
        }
    }
}

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

/// The gaps of the ledger at the start. Their rows may be earlier ones of keys that have later rows
/// in `retry` (both were in hand when the process ended), so `retry` is served after them.
#[derive(Debug, Clone, Copy)]
struct StartGaps {
    end: i64,
    read: bool,
}

/// A row as it was read from the outbox.
#[derive(Debug)]
pub struct FreshRow {
    /// The row.
    pub message: Message,
    /// The route that takes it; `None` = filtered.
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
    /// False for a follower.
    pub head: bool,
}

/// What the flow has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Confirmed by the broker.
    pub confirmed: u64,
    /// Settled because no route takes them.
    pub filtered: u64,
    /// Refusals, each one.
    pub refused: u64,
    /// Rows that went to `dead`.
    pub buried: u64,
    /// Submissions beyond the first of a message in this process.
    pub resent: u64,
    /// Rows of `retry` whose message was nowhere.
    pub gone: u64,
    /// Rows set aside because no outcome came.
    pub stragglers: u64,
}

/// Memory that left the flow: rows and bytes to give back to the prefetch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Rows.
    pub rows: usize,
    /// Bytes, as `Message::cost_bytes` counts them.
    pub bytes: usize,
}

/// One pipeline's state between the reader, the target and the ledger.
#[derive(Debug)]
pub struct Flow {
    policy: Policy,
    jitter: Jitter,
    progress: Progress,
    connected: bool,
    /// Sent before the connection was lost, or suspected: before everything else, in this order.
    again: VecDeque<Item>,
    retrying: Retrying,
    /// Read and not sent.
    queue: VecDeque<Item>,
    window: Window,
    held: HeldKeys,
    refused: RefusedRows,
    /// Tickets without an outcome whose rows stand in `retry`; the messages are not kept.
    stragglers: HashMap<Ticket, (i64, Option<String>)>,
    /// The highest id that a predecessor may have sent, and how many it may have sent in vain.
    takeover: (i64, usize),
    start_gaps: Option<StartGaps>,
    /// Messages sent for the first time so far.
    sequence: u64,
    /// Marks seen by the last read that was taken in.
    as_of: u64,
    /// Whether a row of `retry` goes before a fresh one this time.
    retry_turn: bool,
    /// When the youngest confirmed message was sent: what was sent long before it is a straggler.
    confirmed_sent_at: Option<Instant>,
    /// Something changed, or was left out, that a read of `retry` must show again.
    retry_wanted: bool,
    freed: Room,
    counters: Counters,
}

impl Flow {
    /// A flow over the ledger as the database has it. Rows up to `takeover_id` may have been sent by
    /// a predecessor: the first of them say so (`None`: there was none).
    #[must_use]
    pub fn new(policy: Policy, progress: Progress, takeover_id: Option<i64>, seed: u64) -> Self {
        let start_gaps = progress.last().map(|end| StartGaps { end, read: false });
        // What was in flight, and room for what was confirmed and not marked yet: a few milliseconds' worth.
        let takeover = takeover_id.map_or((0, 0), |id| (id, 2 * policy.window_messages_max));
        Self {
            policy,
            jitter: Jitter::new(seed),
            progress,
            connected: false,
            again: VecDeque::new(),
            retrying: Retrying::default(),
            queue: VecDeque::new(),
            window: Window::default(),
            held: HeldKeys::default(),
            refused: RefusedRows::default(),
            stragglers: HashMap::new(),
            takeover,
            start_gaps,
            sequence: 0,
            as_of: 0,
            retry_turn: false,
            confirmed_sent_at: None,
            retry_wanted: false,
            freed: Room::default(),
            counters: Counters::default(),
        }
    }

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
        let item = Item {
            route: row.route.unwrap_or_default(),
            message: Arc::new(row.message),
            as_of,
            held: row.held,
            retry: None,
            resent: None,
            sequence: 0,
            alone: false,
        };
        if row.route.is_none() {
            self.counters.filtered += 1;
            self.progress.settle(item.id());
            self.free(&item);
        } else if let Some(reason) = self.oversize(&item) {
            self.bury(item, 0, reason);
        } else {
            self.queue.push_back(item);
        }
    }

    /// Why the row cannot be sent although it was read: its payload was too large to be.
    fn oversize(&self, item: &Item) -> Option<String> {
        let size = item.message.oversize_bytes()?;
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
            let follows = !row.head;
            // A read that began before a mark may show what the mark has changed since, and a row
            // in hand is not taken twice. Without its head a follower is not due.
            if self.retrying.knows(row.id) || (follows && head.is_none()) {
                if let Some(message) = &row.message {
                    self.free_message(message);
                }
                self.retry_wanted = true;
                continue;
            }
            let Some(message) = row.message else {
                self.counters.gone += 1;
                self.retrying.passed(row.id);
                self.progress.resolve(row.id, row.key.as_deref());
                // The next row of the key is read as a head in its turn.
                continue;
            };
            let item = Item {
                message: Arc::new(message),
                route: row.route.unwrap_or_default(),
                as_of,
                held: false,
                retry: Some(RetryState {
                    attempts: row.attempts,
                    holds: row.holds,
                    replay: row.replay,
                }),
                resent: (row.attempts > 0).then_some(Resent::Retry),
                sequence: 0,
                alone: false,
            };
            if let Some(head) = head {
                self.retrying.take_follower(head, item);
            } else if row.route.is_none() {
                self.counters.filtered += 1;
                self.resolve(item.id(), item.holding_key());
                self.free(&item);
            } else if let Some(reason) = self.oversize(&item) {
                let attempts = item.attempts();
                self.bury(item, attempts, reason);
            } else {
                head = item.holding_key().is_some().then(|| item.id());
                self.retrying.take_head(item);
            }
        }
        self.retrying.forget(as_of);
        if !self.refused.is_empty() && self.again.is_empty() {
            self.refused.forget(self.retrying.oldest_as_of().unwrap_or(as_of).min(as_of));
        }
    }

    /// The target is connected.
    pub fn on_connected(&mut self) {
        self.connected = true;
    }

    /// The connection is lost: what is in flight is unknown and will be sent again, in order,
    /// before anything else. No attempt is charged, unless one message can be blamed.
    pub fn on_broken(&mut self, broken: Broken) {
        self.connected = false;
        for (_, (id, _)) in self.stragglers.drain() {
            // They are due in `retry` and are read from there again.
            self.retrying.drop_row(id);
        }
        let mut flights = self.window.drain();
        if let Some(reaction) = broken.suspect {
            if flights.len() == 1
                && let Some(flight) = flights.pop()
            {
                let refusal = Refusal { reaction, reason: broken.reason };
                self.on_refused(flight.item, refusal, true);
            }
            flights.iter_mut().for_each(|flight| flight.item.alone = true);
        }
        for mut flight in flights {
            flight.item.resent = flight.item.resent.or(Some(Resent::Reconnect));
            self.again.push_back(flight.item);
        }
        // What was waiting to be sent again may have been sent first before some of these.
        self.again.make_contiguous().sort_by_key(|item| item.sequence);
    }

    /// Outcomes came.
    pub fn on_event(&mut self, event: Event) {
        match event {
            Event::Confirmed(ticket) => self.on_confirmed(ticket),
            Event::Refused(ticket, refusal) => self.on_refusal(ticket, refusal),
            Event::Broken(broken) => self.on_broken(broken),
        }
    }

    fn on_confirmed(&mut self, ticket: Ticket) {
        let Some(flight) = self.window.take(ticket) else {
            if let Some((id, key)) = self.stragglers.remove(&ticket) {
                self.counters.confirmed += 1;
                self.resolve(id, key.as_deref());
            }
            return;
        };
        self.counters.confirmed += 1;
        self.confirmed_sent_at = self.confirmed_sent_at.max(Some(flight.sent_at));
        match flight.item.retry {
            None => self.progress.settle(flight.item.id()),
            Some(_) => self.resolve(flight.item.id(), flight.item.holding_key()),
        }
        self.free(&flight.item);
    }

    fn on_refusal(&mut self, ticket: Ticket, refusal: Refusal) {
        if let Some(flight) = self.window.take(ticket) {
            let alone = flight.item.alone;
            self.on_refused(flight.item, refusal, alone);
        } else if let Some((id, _)) = self.stragglers.remove(&ticket) {
            // Its row in `retry` falls due by itself and is read from there.
            self.counters.refused += 1;
            self.retrying.drop_row(id);
        }
    }

    fn on_refused(&mut self, mut item: Item, refusal: Refusal, alone: bool) {
        self.counters.refused += 1;
        let verdict = decide(refusal, item.attempts(), alone, &self.policy, &mut self.jitter);
        match verdict {
            Verdict::Alone => {
                item.alone = true;
                item.resent = item.resent.or(Some(Resent::Retry));
                let place = self.again.partition_point(|other| other.sequence < item.sequence);
                self.again.insert(place, item);
            }
            Verdict::Bury { attempts, reason } => self.bury(item, attempts, reason),
            Verdict::Retry { attempts, due_in, reason } => {
                let row = SetAside {
                    id: item.id(),
                    key: item.key().map(str::to_owned),
                    holds: item.holding_key().is_some(),
                    attempts,
                    due_in: Some(due_in),
                    class: Class::Refused,
                    reason: Some(reason),
                };
                self.set_aside(&item, row);
            }
        }
    }

    /// The row goes to `retry`, or stays there; its memory is free.
    fn set_aside(&mut self, item: &Item, row: SetAside) {
        if row.holds
            && let Some(key) = &row.key
        {
            self.held.set_aside(key);
            if row.class == Class::Refused {
                self.refused.insert(key, row.id);
            }
        }
        if item.retry.is_none() {
            self.progress.set_aside(row);
        } else {
            self.progress.retry_again(row);
            self.give_back_followers(item);
        }
        self.free(item);
    }

    fn bury(&mut self, item: Item, attempts: u32, reason: String) {
        self.counters.buried += 1;
        // The key is held until the burial is committed: after a crash before that the row is
        // pending again, and what was sent behind it would have overtaken it.
        let key = item.holding_key().map(str::to_owned);
        if let Some(key) = &key {
            self.held.set_aside(key);
            self.refused.insert(key, item.id());
        }
        let row = Buried { id: item.id(), key, attempts, reason };
        if item.retry.is_none() {
            self.progress.bury(row);
        } else {
            self.progress.bury_retry(row);
            self.give_back_followers(&item);
        }
        self.free(&item);
    }

    /// The rows behind one that was not delivered stay in `retry`, until its change is committed
    /// and the next head is due.
    fn give_back_followers(&mut self, item: &Item) {
        for follower in self.retrying.refused(item.id(), item.holding_key()) {
            self.free(&follower);
        }
    }

    fn resolve(&mut self, id: i64, key: Option<&str>) {
        self.retrying.passed(id);
        if !self.progress.resolve(id, key) {
            self.retrying.drop_row(id);
            if let Some(key) = key {
                self.held.cancelled(key);
            }
        }
    }

    /// The next message to hand to the target, if one may go now.
    pub fn next_send(&mut self, now: Instant) -> Option<Submission> {
        let room = self.connected
            && !self.window.has_alone()
            && self.window.messages() < self.policy.window_messages_max
            && (self.window.bytes() < self.policy.window_bytes_max || self.window.messages() == 0)
            && self.stragglers.len() < self.policy.stragglers_max;
        if !room {
            return None;
        }
        let mut item = self.next_item()?;
        if item.sequence == 0 {
            self.sequence += 1;
            item.sequence = self.sequence;
        }
        if item.resent.is_some() {
            self.counters.resent += 1;
        }
        let (message, route) = (Arc::clone(&item.message), item.route);
        let resent = item.resent.or_else(|| self.takeover(item.id()));
        let replay = item.retry.and_then(|retry| retry.replay);
        let ticket = self.window.push(item, now);
        Some(Submission { ticket, message, route, resent, replay })
    }

    fn next_item(&mut self) -> Option<Item> {
        while let Some(item) = self.again.front() {
            if item.alone && self.window.messages() > 0 {
                return None;
            }
            let item = self.again.pop_front()?;
            // Its key may be held by a later row that was in flight with it: that one waits for it.
            let waits = item.retry.is_none()
                && item.key().is_some_and(|key| self.refused.is_before(key, item.id()));
            if !waits {
                return Some(item);
            }
            if let Some(key) = item.key() {
                // Later rows of the key may stand in `retry` already: this one goes before them.
                self.refused.insert(key, item.id());
            }
            self.hold(&item);
        }
        // In turn, so that neither a flood of replayed rows nor a backlog starves the other.
        self.retry_turn = !self.retry_turn;
        if self.retry_turn {
            self.next_retry().or_else(|| self.next_fresh())
        } else {
            self.next_fresh().or_else(|| self.next_retry())
        }
    }

    fn next_retry(&mut self) -> Option<Item> {
        if let Some(gaps) = self.start_gaps {
            let unsent = self.queue.front().is_some_and(|item| item.id() < gaps.end);
            if !gaps.read || unsent {
                return None;
            }
            self.start_gaps = None;
        }
        while let Some(next) = self.retrying.pop() {
            match next {
                Ok(item) if self.waits_for_refused(&item) => {
                    // Read again when the refused row stands in `retry`, as the head.
                    self.give_back_followers(&item);
                    self.retrying.drop_row(item.id());
                    self.free(&item);
                    self.retry_wanted = true;
                }
                Ok(item) => return Some(item),
                Err(item) => self.free(&item),
            }
        }
        None
    }

    fn next_fresh(&mut self) -> Option<Item> {
        while let Some(item) = self.queue.pop_front() {
            if let Some(item) = self.unless_held(item) {
                return Some(item);
            }
        }
        None
    }

    /// Gives the item back, unless it is a fresh row whose key is held: then it is set aside.
    fn unless_held(&mut self, item: Item) -> Option<Item> {
        let Some(key) = item.key().filter(|_| item.retry.is_none()) else {
            return Some(item);
        };
        if !item.held && !self.held.holds(key, item.as_of) {
            return Some(item);
        }
        self.hold(&item);
        None
    }

    /// Sets a fresh row aside behind an earlier one of its key.
    fn hold(&mut self, item: &Item) {
        let row = SetAside {
            id: item.id(),
            key: item.key().map(str::to_owned),
            holds: true,
            attempts: 0,
            due_in: None,
            class: Class::Held,
            reason: None,
        };
        self.set_aside(item, row);
    }

    fn waits_for_refused(&self, item: &Item) -> bool {
        item.holding_key()
            .is_some_and(|key| self.refused.is_unseen_before(key, item.id(), item.as_of))
    }

    fn takeover(&mut self, id: i64) -> Option<Resent> {
        let (last, left) = &mut self.takeover;
        if *left == 0 || id > *last {
            return None;
        }
        *left -= 1;
        Some(Resent::Takeover)
    }

    /// Takes what the next mark holds; `None` if there is nothing to write. The caller commits it
    /// and calls `on_marked` before it takes another.
    pub fn take_mark(&mut self, now: Instant) -> Option<Mark> {
        if self.progress.islands() > GAPS_MAX {
            self.set_stragglers_aside();
        }
        self.progress.take_mark(now)
    }

    /// Rows that were sent long before others that are confirmed (one partition is down, say) keep
    /// the ledger in gaps: they go to `retry` without an attempt, and are not sent again while no
    /// outcome has come.
    fn set_stragglers_aside(&mut self) {
        let deadline =
            self.confirmed_sent_at.and_then(|at| at.checked_sub(self.policy.straggler_after));
        let Some(deadline) = deadline else { return };
        let room = self.policy.stragglers_max.saturating_sub(self.stragglers.len());
        for (ticket, flight) in self.window.take_older(deadline, room) {
            let item = flight.item;
            let key = item.key().map(str::to_owned);
            self.counters.stragglers += 1;
            self.retrying.adopt(item.id());
            self.stragglers.insert(ticket, (item.id(), key.clone()));
            let row = SetAside {
                id: item.id(),
                holds: key.is_some(),
                key,
                attempts: 0,
                due_in: Some(self.policy.confirm_timeout),
                class: Class::Straggler,
                reason: Some("sent, and no outcome yet".into()),
            };
            self.set_aside(&item, row);
        }
    }

    /// Mark `number` was committed; numbers rise by one.
    pub fn on_marked(&mut self, mark: &Mark, number: u64) {
        self.progress.marked(mark);
        self.retry_wanted |= !mark.keys.is_empty() || !mark.resolved.is_empty();
        for row in &mark.set_aside {
            self.retrying.committed(row.id, number);
            if let Some(key) = row.key.as_deref().filter(|_| row.holds) {
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

    /// Whether `retry` should be read, asked once.
    pub fn take_retry_wanted(&mut self) -> bool {
        std::mem::take(&mut self.retry_wanted)
    }

    /// Rows of `retry` that a read need not show.
    #[must_use]
    pub fn retry_in_hand(&self) -> Vec<i64> {
        self.retrying.ids()
    }

    /// Memory that became free since the last call.
    pub fn take_freed(&mut self) -> Room {
        std::mem::take(&mut self.freed)
    }

    /// When the oldest unconfirmed message was sent: the confirm watchdog looks at it.
    #[must_use]
    pub fn oldest_unconfirmed(&self) -> Option<Instant> {
        self.window.oldest()
    }

    /// Messages in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.window.messages()
    }

    /// Whether nothing is read and unsettled.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.window.messages() == 0
            && self.queue.is_empty()
            && self.again.is_empty()
            && !self.retrying.has_ready()
            && !self.progress.has_work()
    }

    /// Whether a mark would write something.
    #[must_use]
    pub fn has_marks(&self) -> bool {
        self.progress.has_work()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn forget_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let oldest = self.queue.front().map_or(self.as_of, |item| item.as_of);
        self.held.forget(oldest);
    }

    fn free(&mut self, item: &Item) {
        self.freed.rows += 1;
        self.freed.bytes += item.message.cost_bytes();
    }

    fn free_message(&mut self, message: &Message) {
        self.freed.rows += 1;
        self.freed.bytes += message.cost_bytes();
    }
}
