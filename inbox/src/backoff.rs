//! How long to wait before a failed message is tried again.

use std::time::Duration;

use uuid::Uuid;

/// Exponential from `min` to `max` with full jitter: evenly from nothing to the step, so that
/// messages which failed together do not come back together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

impl Backoff {
    /// The delay after failed attempt `attempt` (1 = the first); `fraction` is drawn from 0..1.
    pub(crate) fn delay(self, attempt: u32, fraction: f64) -> Duration {
        let step = self.min.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(self.max);
        step.mul_f64(fraction.clamp(0.0, 1.0))
    }
}

/// Evenly from 0..1; spread is all that is asked of it.
pub(crate) fn fraction() -> f64 {
    // Random bits of a version 4 id: those behind its variant.
    let bits = Uuid::new_v4().as_u128() & u128::from(u32::MAX);
    f64::from(u32::try_from(bits).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_between_nothing_and_its_step() {
        let backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };
        let longest = |attempt| backoff.delay(attempt, 1.0).as_millis();
        assert_eq!([1, 2, 3, 7, 8, 1_000_000].map(longest), [100, 200, 400, 6_400, 10_000, 10_000]);
        assert_eq!(backoff.delay(5, 0.0), Duration::ZERO);
        assert!((0..100).all(|_| (0.0..1.0).contains(&fraction())));
    }
}
