//! Exponential back-off with full jitter, from a seeded generator so that a schedule can be replayed.

use std::time::Duration;

/// Delays that grow from `min` to `max`; each is drawn evenly from half the step to the step, so
/// that a crowd of retries spreads and none comes at once.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The first step.
    pub min: Duration,
    /// The longest step.
    pub max: Duration,
}

impl Backoff {
    /// The delay before try `attempt` (1 = the first repetition).
    pub fn delay(&self, attempt: u32, jitter: &mut Jitter) -> Duration {
        let step = self.min.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(self.max);
        step.mul_f64(0.5 + 0.5 * jitter.fraction()).max(self.min.mul_f64(0.5))
    }
}

/// A small seeded generator (splitmix64): spread is all that is asked of it.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    /// The same seed gives the same delays.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Evenly from `0..1`.
    pub fn fraction(&mut self) -> f64 {
        // 53 bits fill an f64's mantissa.
        let bits = u32::try_from(self.draw() >> 32).unwrap_or(u32::MAX);
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }

    /// Evenly from all of `u64`.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_delay_stays_between_half_the_first_step_and_the_longest(seed: u64, attempt in 1..1000u32) {
            let backoff = Backoff { min: Duration::from_millis(50), max: Duration::from_secs(30) };
            let delay = backoff.delay(attempt, &mut Jitter::new(seed));
            prop_assert!(delay >= Duration::from_millis(25));
            prop_assert!(delay <= Duration::from_secs(30));
        }
    }
}
