//! Where messages come from: reads the outbox, exactly, and without ever holding a snapshot while it waits.
//!
//! One [`Reader`] per pipeline, on a connection of its own, sends what it reads as [`FromSource`]:
//! ```text
//!              ┌── lock read: which holes are dead, is the identity still ours ── hole, guard
//!   Reader ────┼── read: head and holes in one statement, one snapshot ────────── poll
//!   (one task) └── retry read: what was set aside and is due ──────────────────── retry
//!      ▲   ▲
//!      │   └ Budget: rows and bytes in memory
//!      └ BellHandle: sleep until a commit rings
//! ```
//! What decides is pure (`hole`, `guard`, `pace`, `budget`); what talks to PostgreSQL decides nothing.

mod apart;
mod bell;
mod budget;
mod column;
mod error;
mod guard;
mod holder;
mod hole;
mod lock;
mod nap;
mod pace;
mod piece;
mod poll;
mod reader;
mod reading;
mod retry;
mod session;
mod statements;
mod status;

use std::time::Duration;

use uuid::Uuid;

use crate::message::Message;
use crate::range::{IdRange, RangeSet};

pub use bell::{Bell, BellHandle};
pub use budget::{Budget, Reservation};
pub use error::SourceError;
pub(crate) use guard::restarted;
pub use holder::HolderName;
pub(crate) use holder::WRITERS;
pub use reader::Reader;
pub use reading::Ports;
pub use status::SourceStatus;

/// Where a reader begins: what its target's ledger says.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// `meta.floor`: below it are only the messages that somebody still needs.
    pub floor: i64,
    /// `ledger.settled`.
    pub settled: RangeSet,
    /// The open rows of `hole`: settled in the ledger, and yet to be seen.
    pub open: RangeSet,
}

impl Start {
    /// The first id above both ledger and floor: what is read for the first time begins there.
    pub(crate) fn head(&self) -> i64 {
        self.settled.last().map_or(self.floor, |range| range.end.max(self.floor))
    }

    /// What the ledger misses below the head. Below the floor as well: after a rebuild a message that
    /// was kept for a retry is pending there, and nobody else looks for it.
    pub(crate) fn gaps(&self) -> RangeSet {
        self.settled.gaps(1..self.head())
    }
}

/// What a reader sends.
#[derive(Debug)]
pub enum FromSource {
    /// Rows that no read had shown before.
    Batch(Batch),
    /// Rows that were set aside.
    Retry(RetryBatch),
}

/// One read of the outbox, or a piece of one whose payloads did not fit the budget at once.
#[derive(Debug)]
pub struct Batch {
    /// The number of the last mark that was committed before this read began.
    pub as_of: u64,
    /// By ascending id. Each costs its [`Message::cost_bytes`] and one row of the [`Budget`],
    /// which whoever takes the batch releases.
    pub rows: Vec<Row>,
    /// Ids that this read passed and did not see: holes from now on. In the first piece of a read.
    pub opened: Vec<IdRange>,
    /// Holes that this read proved dead: no transaction can commit them any more. In the first piece.
    pub dead: Vec<IdRange>,
    /// Of what was asked for (the head is not, while the reader is stalled), nothing visible was left
    /// out. Only ever true in the last piece of a read.
    pub caught_up: bool,
}

/// A row, for the first time.
#[derive(Debug)]
pub struct Row {
    /// The row.
    pub message: Message,
    /// Its key had a holding row in `retry`, as of this read's snapshot.
    pub held: bool,
}

/// What is due in `retry`, in groups: the head of a key, then that key's later rows by id.
/// A row comes again with every read until it has left `retry` or is named as being in hand.
#[derive(Debug)]
pub struct RetryBatch {
    /// The number of the last mark that was committed before this read began.
    pub as_of: u64,
    /// The rows. Those with a message cost the [`Budget`] what a [`Row`] costs.
    pub rows: Vec<RetryRow>,
    /// How long until the next row is due. The reader reads then without being asked.
    pub next_due: Option<Duration>,
}

/// A row of `retry`.
#[derive(Debug)]
pub struct RetryRow {
    /// The message, or its `dead` copy; `None` if it is in neither: gone.
    pub message: Option<Message>,
    /// `retry.id`
    pub id: i64,
    /// `retry.key`
    pub key: Option<String>,
    /// Later rows of the key wait for this one.
    pub holds: bool,
    /// Refusals so far.
    pub attempts: u32,
    /// `retry.class`
    pub class: String,
    /// The replay it belongs to.
    pub replay: Option<Uuid>,
    /// What it waits for, if it is parked.
    pub destination: Option<String>,
    /// It may have reached the broker.
    pub sent: bool,
    /// It is due itself; the others wait behind one that is.
    pub head: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(floor: i64, settled: &str) -> (String, i64) {
        let settled = settled.parse().expect("a multirange");
        let start = Start { floor, settled, open: RangeSet::new() };
        (start.gaps().to_string(), start.head())
    }

    #[test]
    fn whatever_the_ledger_misses_below_the_head_is_looked_at() {
        assert_eq!(gaps(1, "{}"), ("{}".to_owned(), 1));
        assert_eq!(gaps(10, "{[1,10)}"), ("{}".to_owned(), 10));
        assert_eq!(gaps(10, "{[1,12),[15,20)}"), ("{[12,15)}".to_owned(), 20));
        assert_eq!(gaps(1, "{[5,6)}"), ("{[1,5)}".to_owned(), 6));
    }

    #[test]
    fn so_is_what_a_rebuilt_ledger_misses_below_the_floor() {
        assert_eq!(gaps(1_000, "{[1,400)}"), ("{[400,1000)}".to_owned(), 1_000));
        assert_eq!(gaps(1_000, "{}"), ("{[1,1000)}".to_owned(), 1_000));
        assert_eq!(gaps(10, "{[1,3),[12,20)}"), ("{[3,12)}".to_owned(), 20));
    }
}
