//! The pure core of a pipeline: it knows no database and no broker.
//!
//! Events come in (rows read, outcomes, marks committed, the clock), commands are taken out
//! (`next_send`, `take_mark`). It owns the order per key, the window, what is sent again after a
//! loss of the connection, and what a refusal means.
//!
//! `intake` takes in what was read, `send` chooses what goes out, `outcome` hears what became of it,
//! `settle` hands over what is to be written. The other files are the parts they work on.

mod backoff;
mod careful;
mod decide;
mod held;
mod intake;
mod item;
mod lane;
mod outcome;
mod park;
mod policy;
mod refused;
mod retry;
mod send;
mod settle;
#[cfg(test)]
mod simulator;
mod straggler;
#[cfg(test)]
mod tests;
mod trial;
mod unrouted;
mod waiting;
mod window;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

pub use backoff::{Backoff, Jitter};
pub use careful::{CRASHES_MAX, Past};
pub use intake::{FreshRead, FreshRow, RetryRow};
pub use policy::Policy;
pub use unrouted::{KnownUnrouted, TOPICS_MAX};

use crate::config::Order;
use crate::ledger::progress::Progress;
use crate::message::Message;
use crate::route::{RouteConfig, wait};
use careful::Careful;
use held::HeldKeys;
use intake::StartGaps;
use item::Item;
use lane::Lanes;
use park::Parked;
use refused::RefusedRows;
use retry::Retrying;
use straggler::Stragglers;
use trial::Trial;
use unrouted::UnroutedTopics;
use waiting::Waiting;
use window::Window;

/// So many unmarked ids make a mark urgent.
const URGENT_IDS: usize = 1_000;

/// What the flow has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Confirmed by the broker.
    pub confirmed: u64,
    /// Settled because no route takes them.
    pub filtered: u64,
    /// Refusals, each one.
    pub refused: u64,
    /// Rows that were set aside for a parked destination, refused or not sent at all.
    pub parked: u64,
    /// Rows that went to `dead`.
    pub buried: u64,
    /// Submissions beyond the first of a message in this process.
    pub resent: u64,
    /// Rows of `retry` whose message was nowhere.
    pub gone: u64,
    /// Rows set aside because no outcome came.
    pub stragglers: u64,
    /// Rows that went to `dead` because `waiting_rows_max` others wait for the same route.
    pub overflowed: u64,
}

/// Memory that left the flow: rows and bytes to give back to the prefetch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Rows.
    pub rows: usize,
    /// Bytes, as `Message::cost_bytes` counts them.
    pub bytes: usize,
}

/// What a flow begins with, as the database has it.
#[derive(Debug)]
pub struct Begin {
    /// The ledger.
    pub progress: Progress,
    /// Rows up to this id may have been sent by a predecessor: the first windows of them say so.
    /// `None`: there was none.
    pub takeover_id: Option<i64>,
    /// The destinations that rows of `retry` wait for.
    pub parked: Vec<String>,
    /// How the lives before this one ended.
    pub past: Past,
    /// The routes are other ones than those of the last run that came to act on a change. True as
    /// well where the routes of that run are unknown.
    pub routes_changed: bool,
    /// The target's rows of `outbox.unrouted`.
    pub unrouted: Vec<KnownUnrouted>,
}

/// One pipeline's state between the reader, the target and the ledger.
#[derive(Debug)]
pub struct Flow {
    policy: Policy,
    routes: Arc<[RouteConfig]>,
    jitter: Jitter,
    progress: Progress,
    connected: bool,
    /// Sent before the connection was lost, or suspected: before everything else, in this order.
    again: VecDeque<Item>,
    trial: Trial,
    retrying: Retrying,
    /// Read and not sent.
    queue: VecDeque<Item>,
    lanes: Lanes,
    window: Window,
    held: HeldKeys,
    refused: RefusedRows,
    parked: Parked,
    waiting: Waiting,
    /// Ends of the channel over a destination, in a row, and what was confirmed at the last.
    destination_ends: (u32, u64),
    careful: Careful,
    stragglers: Stragglers,
    /// The highest id that a predecessor may have sent, and how many it may have sent in vain.
    takeover: (i64, usize),
    start_gaps: Option<StartGaps>,
    /// Messages sent for the first time so far.
    sequence: u64,
    /// Marks seen by the last read that was taken in.
    as_of: u64,
    /// Whether a row of `retry` goes before a fresh one this time.
    retry_turn: bool,
    /// Two windows are unmarked, nothing fresh is in flight and no mark would change that: what the
    /// ledger waits for stands further back in the queue.
    jammed: bool,
    /// When the youngest confirmed message was sent: what was sent long before it is a straggler.
    confirmed_sent_at: Option<Instant>,
    /// The rows of `retry` are to be counted.
    retry_uncounted: bool,
    /// Something changed, or was left out, that a read of `retry` must show again.
    retry_wanted: bool,
    /// The routes changed, and no mark has recorded yet that this run has acted on it.
    routes_changed: bool,
    unrouted: UnroutedTopics,
    freed: Room,
    counters: Counters,
}

impl Flow {
    /// A flow over the ledger as the database has it. `seed` is that of the back-off's jitter.
    #[must_use]
    pub fn new(policy: Policy, routes: Arc<[RouteConfig]>, begin: Begin, seed: u64) -> Self {
        let Begin { progress, takeover_id, parked: destinations, past, .. } = begin;
        let Begin { routes_changed, unrouted, .. } = begin;
        let unrouted = UnroutedTopics::new(unrouted, progress.last().unwrap_or(1));
        let start_gaps = progress.last().map(|end| StartGaps { end, read: false });
        // What was in flight, and room for what was confirmed and not marked yet; of every life that ended
        // early: none of them may have come to what the one before had sent.
        let lives = usize::try_from(past.crashes).unwrap_or(usize::MAX).saturating_add(1);
        let sent_max = policy.window_messages_max.saturating_mul(2).saturating_mul(lives);
        let takeover = takeover_id.map_or((0, 0), |id| (id, sent_max));
        let mut parked = Parked::default();
        let mut waiting = Waiting::new(policy.waiting_rows_max);
        for name in destinations {
            match wait::group(&name) {
                Some(_) => waiting.load(name.into()),
                None => parked.load(name.into()),
            }
        }
        Self {
            retrying: Retrying::new(policy.order),
            policy,
            routes,
            jitter: Jitter::new(seed),
            progress,
            connected: false,
            again: VecDeque::new(),
            trial: Trial::default(),
            queue: VecDeque::new(),
            lanes: Lanes::default(),
            window: Window::default(),
            held: HeldKeys::default(),
            refused: RefusedRows::default(),
            parked,
            waiting,
            destination_ends: (0, 0),
            careful: Careful::new(past),
            stragglers: Stragglers::default(),
            takeover,
            start_gaps,
            sequence: 0,
            as_of: 0,
            retry_turn: false,
            jammed: false,
            confirmed_sent_at: None,
            retry_uncounted: false,
            retry_wanted: false,
            routes_changed,
            unrouted,
            freed: Room::default(),
            counters: Counters::default(),
        }
    }

    /// The target is connected.
    pub fn on_connected(&mut self) {
        self.connected = true;
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

    /// Whether everything that was read was sent and answered.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.window.messages() == 0
            && self.again.is_empty()
            && self.queue.is_empty()
            && self.careful.is_idle()
            && self.lanes.is_empty()
    }

    /// Whether rows of `retry` are in hand that could be sent.
    #[must_use]
    pub fn has_retry_ready(&self) -> bool {
        self.retrying.has_ready()
    }

    /// Destinations that are parked, and routes that rows wait for.
    #[must_use]
    pub fn parked_destinations(&self) -> usize {
        self.parked.len() + self.waiting.len()
    }

    /// An operator may have changed how many rows stand in `retry`: the next mark counts them.
    pub fn count_retry(&mut self) {
        self.retry_uncounted = true;
    }

    /// When time alone makes a parked destination due for a probe: then a mark is to be taken.
    #[must_use]
    pub fn probe_at(&self) -> Option<Instant> {
        self.parked.wake_at().filter(|_| self.connected)
    }

    /// Whether a mark would write something.
    #[must_use]
    pub fn has_marks(&self) -> bool {
        self.progress.has_work()
            || self.parked.has_work()
            || self.careful.has_work()
            || self.routes_changed
            || self.unrouted.has_work()
    }

    /// Whether a mark would settle much, or something waits for it.
    #[must_use]
    pub fn is_mark_urgent(&self) -> bool {
        self.progress.unmarked() >= URGENT_IDS
            || self.progress.has_changes()
            || self.parked.has_work()
            || self.careful.has_work()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn is_strict(&self) -> bool {
        self.policy.order == Order::Strict
    }

    fn free(&mut self, item: &Item) {
        self.free_message(&item.message);
    }

    fn free_message(&mut self, message: &Message) {
        self.freed.rows += 1;
        self.freed.bytes += message.cost_bytes();
    }
}
