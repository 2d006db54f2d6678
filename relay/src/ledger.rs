//! The ledger: per target, the set of ids that are settled. It is the only progress there is.
//!
//! `progress` decides (pure) what the next mark holds; `mark` writes it, as one statement on the
//! session that holds the pipeline's lock.

pub mod aside;
pub mod mark;
pub mod progress;

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::range::RangeSet;

/// One change of the ledger: everything in it becomes true in one statement, or nothing does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// Where the messages went, if that is to be noted.
    pub broker: Option<Broker>,
    /// Ids that become settled.
    pub settled: RangeSet,
    /// Ids read past but never seen that are settled as open holes: loaded again at the next start.
    pub opened: RangeSet,
    /// Ids of recorded open holes that are settled for good now: they arrived and were dealt with,
    /// or they were proved dead.
    pub closed: RangeSet,
    /// Ids proved dead (rolled back): remembered until the floor passes them, so that the keeper
    /// finds a row that was wrongly given up.
    pub dead: RangeSet,
    /// Rows that go to `retry`, or whose `retry` row changes.
    pub set_aside: Vec<SetAside>,
    /// Rows that leave `retry`: delivered, or gone.
    pub resolved: Vec<i64>,
    /// Rows that go to `dead`.
    pub buried: Vec<Buried>,
    /// By how many rows `retry` grows (or shrinks).
    pub retry_growth: i64,
    /// Ordering keys whose rows in `retry` changed: their head must be due.
    pub keys: Vec<String>,
    /// The message that is sent next, with care: recorded, so that a later life knows whom to blame.
    pub started: Option<i64>,
    /// The life has come past the messages that may have ended those before it: they are not counted any more. (The
    /// end of a life in good order says so by itself.)
    pub ended: bool,
    /// This run has acted on the change of the routes: the next run does not hear of it again.
    pub routes_tried: bool,
    /// What no route takes and the database does not know yet.
    pub unrouted: Vec<Noted>,
    /// Messages that were sent although an earlier life may have recorded them as unsent.
    pub sent_after_all: Vec<i64>,
    /// Parked destinations that work again: what waits for them is made due, some of it by each mark.
    /// Once committed, those for which more waits.
    pub releases: Vec<Arc<str>>,
    /// Parked destinations that rows must probe. Once committed, each says how many rows it has found.
    pub probes: Vec<Probe>,
    /// Routes that rows wait for. Once committed, with how many do.
    pub counts: Vec<(Arc<str>, u64)>,
    /// The rows of `retry` are to be counted.
    pub count_retry: bool,
    /// Once committed, how many they are.
    pub retry_rows: Option<u64>,
}

/// Rows of a parked destination that are made due, so that they try it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The destination.
    pub destination: Arc<str>,
    /// How many.
    pub rows: u32,
    /// How many there were.
    pub found: u32,
    /// The row that was the last probe: those behind it come first, then it begins anew. One row that
    /// is always refused (too large for the queue, say) must not stand for all the others.
    pub after: i64,
}

impl Mark {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settled.is_empty()
            && self.closed.is_empty()
            && self.set_aside.is_empty()
            && self.resolved.is_empty()
            && self.buried.is_empty()
            && self.started.is_none()
            && !self.ended
            && !self.routes_tried
            && self.unrouted.is_empty()
            && self.sent_after_all.is_empty()
            && self.releases.is_empty()
            && self.probes.is_empty()
            && self.counts.is_empty()
            && !self.count_retry
    }

    /// Whether `settled` is all of it: then the statement that runs thousands of times suffices.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.opened.is_empty()
            && self.closed.is_empty()
            && self.dead.is_empty()
            && self.set_aside.is_empty()
            && self.resolved.is_empty()
            && self.buried.is_empty()
            && !self.is_about_routes()
    }

    /// Whether it changes what is recorded of topics that no route takes.
    #[must_use]
    pub fn is_about_routes(&self) -> bool {
        !self.unrouted.is_empty() || !self.sent_after_all.is_empty()
    }
}

/// What becomes a row of `outbox.unrouted`, or is added to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// `None`: all topics that have no row of their own.
    pub topic: Option<String>,
    /// The type.
    pub kind: Option<String>,
    /// The first such message.
    pub first_id: i64,
    /// From this id on every message of the topic is settled unsent, until the routes change.
    pub open_from: Option<i64>,
    /// Ids below that, one by one.
    pub late: RangeSet,
}

/// A row of `retry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// The message's id.
    pub id: i64,
    /// Its ordering key.
    pub key: Option<String>,
    /// Whether later rows of the key wait for it.
    pub holds: bool,
    /// How often it was refused.
    pub attempts: u32,
    /// When it is due.
    pub due: Due,
    /// Why it is there.
    pub class: Class,
    /// For people.
    pub reason: Option<String>,
    /// What it waits for, if its class is `parked`.
    pub destination: Option<Arc<str>>,
    /// It may have reached the broker.
    pub sent: bool,
}

/// When a row of `retry` is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// When it becomes the head of its key.
    Head,
    /// This long after the commit.
    In(Duration),
    /// When its destination works again, or a person releases it.
    Never,
}

/// Why a row stands in `retry`: the values of `retry.class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The broker refused it.
    Refused,
    /// An earlier row of its key stands in `retry`.
    Held,
    /// Sent, and without an outcome for long while later ones were confirmed.
    Straggler,
    /// Its destination is missing or forbidden.
    Parked,
    /// It is dead, and its key is held until a person releases it.
    Poison,
    /// The keeper found it behind an id that had been given up.
    Late,
}

impl Class {
    /// The column's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Held => "held",
            Self::Straggler => "straggler",
            Self::Parked => "parked",
            Self::Poison => "poison",
            Self::Late => "late",
        }
    }
}

/// A row that goes to `dead`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buried {
    /// The message's id.
    pub id: i64,
    /// The key that it holds until the burial is committed.
    pub key: Option<String>,
    /// It holds the key after that as well, by a row in `retry`, until a person releases it.
    pub holds: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// For people: what refused it, with the limit and the actual size where there is one.
    pub reason: String,
    /// Its content cannot be copied: the row in `dead` goes without it.
    pub bare: bool,
}

impl Buried {
    /// The row of `retry` that goes on holding the key.
    pub(crate) fn holding_row(&self) -> Option<SetAside> {
        self.holds.then(|| SetAside {
            id: self.id,
            key: self.key.clone(),
            holds: true,
            attempts: self.attempts,
            due: Due::Never,
            class: Class::Poison,
            reason: Some(self.reason.clone()),
            destination: None,
            sent: true,
        })
    }
}
