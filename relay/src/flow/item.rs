//! One message on its way through the flow.

use std::sync::Arc;

use uuid::Uuid;

use crate::message::{Message, Resent};

/// A message with what the flow knows about it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) message: Arc<Message>,
    /// The route that takes it.
    pub(super) route: usize,
    /// The last mark that the read which brought it is known to have seen.
    pub(super) as_of: u64,
    /// Its key had a holding row in `retry`, as of that read.
    pub(super) held: bool,
    /// Its row in `retry`, if it came from there.
    pub(super) retry: Option<RetryState>,
    pub(super) resent: Option<Resent>,
    /// Its place among all first submissions, from 1; 0 = not sent yet. What is sent again keeps it.
    pub(super) sequence: u64,
    /// To be sent with nothing else in flight: it is suspected of what befell a whole batch.
    pub(super) alone: bool,
}

/// What the `retry` row of an item says.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetryState {
    pub(super) attempts: u32,
    pub(super) holds: bool,
    pub(super) replay: Option<Uuid>,
}

impl Item {
    pub(super) fn id(&self) -> i64 {
        self.message.id()
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.message.key()
    }

    pub(super) fn attempts(&self) -> u32 {
        self.retry.map_or(0, |retry| retry.attempts)
    }

    /// The key that this item holds, or would hold, if it has to wait: rows without a key hold
    /// nobody, and neither do late, requeued and replayed ones.
    pub(super) fn holding_key(&self) -> Option<&str> {
        if self.retry.is_none_or(|retry| retry.holds) { self.key() } else { None }
    }
}
