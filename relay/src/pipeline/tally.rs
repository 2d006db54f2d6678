//! What the loop says of refusals and of its progress: a summary now and then, not a line a message.

use std::time::{Duration, Instant};

use crate::flow::Counters;
use crate::target::Refusal;

/// Refusals are gathered this long between two lines: an unroutable topic refuses thousands a second.
const REFUSALS_INTERVAL: Duration = Duration::from_secs(5);

/// How often a working pipeline says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(60);

/// Speaks for one life of a pipeline.
#[derive(Debug)]
pub(super) struct Tally {
    target_name: String,
    refused: u64,
    last: Option<Refusal>,
    refusals_at: Instant,
    progress_at: Instant,
    said: Counters,
}

impl Tally {
    pub(super) fn new(target_name: &str, now: Instant) -> Self {
        Self {
            target_name: target_name.to_owned(),
            refused: 0,
            last: None,
            refusals_at: now,
            progress_at: now + PROGRESS_INTERVAL,
            said: Counters::default(),
        }
    }

    /// A message was refused.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        self.refused += 1;
        self.last = Some(refusal.clone());
    }

    /// Says what is due.
    pub(super) fn say(&mut self, counters: Counters, now: Instant) {
        if self.refused > 0 && now >= self.refusals_at {
            let reason = self.last.take().map(|refusal| refusal.reason).unwrap_or_default();
            tracing::warn!(
                target_name = self.target_name,
                refused = self.refused,
                dead = counters.buried,
                last_reason = reason,
                "messages were refused: they wait in retry, or are dead"
            );
            (self.refused, self.refusals_at) = (0, now + REFUSALS_INTERVAL);
        }
        if now >= self.progress_at {
            if counters != self.said {
                tracing::info!(
                    target_name = self.target_name,
                    confirmed = counters.confirmed,
                    resent = counters.resent,
                    refused = counters.refused,
                    dead = counters.buried,
                    filtered = counters.filtered,
                    stragglers = counters.stragglers,
                    "progress"
                );
                self.said = counters;
            }
            self.progress_at = now + PROGRESS_INTERVAL;
        }
    }
}
