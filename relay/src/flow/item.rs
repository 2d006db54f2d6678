//! One message on its way through the flow.

use std::sync::Arc;

use uuid::Uuid;

use super::intake::{FreshRow, RetryRow};
use crate::message::{Message, Resent};

/// In place of a route's index: no route takes the item, and it waits for one when its turn comes.
pub(super) const UNROUTED: usize = usize::MAX;

/// A message with what the flow knows about it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) message: Message,
    /// The route that takes it.
    pub(super) route: usize,
    /// The last mark that the read which brought it is known to have seen.
    pub(super) as_of: u64,
    /// Its key had a holding row in `retry`, as of that read.
    pub(super) held: bool,
    /// Its row in `retry`, if it came from there.
    pub(super) retry: Option<Box<RetryState>>,
    pub(super) resent: Option<Resent>,
    /// Its place among all first submissions, from 1; 0 = not sent yet. What is sent again keeps it.
    pub(super) sequence: u64,
    /// One of several that were refused together: it is sent only in the company of its like.
    pub(super) suspect: bool,
    /// The parked destination that it is to try.
    pub(super) probe: Option<Arc<str>>,
}

/// What the `retry` row of an item says.
#[derive(Debug, Clone)]
pub(super) struct RetryState {
    pub(super) attempts: u32,
    pub(super) holds: bool,
    pub(super) replay: Option<Uuid>,
    /// The destination that it was parked for.
    pub(super) parked: Option<Arc<str>>,
    /// The rows of its key behind it wait until it is delivered.
    pub(super) head: bool,
}

impl Item {
    /// A row as the outbox has it.
    pub(super) fn fresh(row: FreshRow, route: usize, as_of: u64) -> Self {
        Self {
            route,
            message: row.message,
            as_of,
            held: row.held,
            retry: None,
            resent: None,
            sequence: 0,
            suspect: false,
            probe: None,
        }
    }

    /// A row that stands in `retry`, with its message.
    pub(super) fn again(row: RetryRow, message: Message, route: usize, as_of: u64) -> Self {
        Self {
            message,
            route,
            as_of,
            held: false,
            resent: (row.attempts > 0 || row.sent).then_some(Resent::Retry),
            retry: Some(Box::new(RetryState {
                attempts: row.attempts,
                holds: row.holds,
                replay: row.replay,
                parked: row.parked,
                head: row.head,
            })),
            sequence: 0,
            suspect: false,
            probe: None,
        }
    }

    pub(super) fn id(&self) -> i64 {
        self.message.id()
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.message.key()
    }

    pub(super) fn attempts(&self) -> u32 {
        self.retry.as_ref().map_or(0, |retry| retry.attempts)
    }

    /// The key that this item holds, or would hold, if it has to wait: rows without a key hold
    /// nobody, and neither do late, requeued and replayed ones.
    pub(super) fn holding_key(&self) -> Option<&str> {
        if self.retry.as_ref().is_none_or(|retry| retry.holds) { self.key() } else { None }
    }
}
