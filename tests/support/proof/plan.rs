//! How much of everything.

use super::crash::CrashPoint;
use crate::support::rng::Rng;

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) messages: usize,
    /// Messages that no attempt can process.
    pub(crate) poison: usize,
    /// How often each consumer ends at each place.
    pub(crate) crashes: usize,
    /// How often the relay ends between a confirm and its mark.
    pub(crate) relay_crashes: usize,
    /// How often each fault of [`Fault`](super::fault::Fault) strikes.
    pub(crate) strikes: usize,
    /// Of a thousand calls to the provider, those that fail. A few more are cut off, if any fails.
    pub(crate) failures_per_mille: u64,
}

impl Plan {
    /// As `./dev proof` runs it.
    pub(crate) fn whole(messages: usize, seed: u64) -> Self {
        let poison = (messages / 1000).max(2);
        Self {
            seed,
            messages,
            poison,
            crashes: 3,
            // After five short lives in a row it would send one message at a time, to find who is to blame.
            relay_crashes: 4,
            strikes: 4,
            failures_per_mille: 100,
        }
    }

    /// As a test runs it.
    pub(crate) fn short(seed: u64) -> Self {
        let whole = Self::whole(300, seed);
        Self { crashes: 1, relay_crashes: 2, strikes: 1, ..whole }
    }

    /// Without any fault.
    pub(crate) fn calm(messages: usize, seed: u64) -> Self {
        let whole = Self::whole(messages, seed);
        Self { poison: 0, crashes: 0, relay_crashes: 0, strikes: 0, failures_per_mille: 0, ..whole }
    }

    /// The ends of one consumer, each with the pass at which it comes.
    pub(crate) fn ends(&self, rng: &mut Rng) -> Vec<(CrashPoint, u64)> {
        let both = [CrashPoint::BeforeCommit, CrashPoint::BeforeAck];
        let points = both.into_iter().cycle().take(2 * self.crashes);
        // Early enough that all consumers together come to all of their ends.
        let passes_max = (self.messages / 4 / (4 * self.crashes + 2)).max(1) as u64;
        points.map(|point| (point, 1 + rng.below(passes_max))).collect()
    }
}
