//! How often to look: the pauses of polling and of lock reads. Pure, except that it is told the time.

use std::time::Duration;

use tokio::time::Instant;

/// Quiet reads in a row from which on the doorbell is asked for. One is not silence: at a thousand
/// rows a second every other read is empty, and a bell armed there would be rung by every commit.
const QUIET_READS_TO_SLEEP: u32 = 2;

/// A read that takes longer than this, and longer than its rows explain, was spent on probing holes
/// (0.6 µs each) or on rows of an open transaction (0.1 to 0.3 µs each, and a bulk load has millions).
/// Then the next one waits: fewer, larger reads cost less.
const PROBING_READ: Duration = Duration::from_millis(5);
/// Far more than a row takes, in a development build as well.
const ROW_COST: Duration = Duration::from_micros(20);

/// From the beginning of a read that showed rows to that of the next. At once there would be nothing yet: a
/// read that shows nothing costs as much as one that does, and a row that comes now is found half as late.
const READ_INTERVAL: Duration = Duration::from_micros(400);
/// From this many rows in a read on, more are coming than one can be read for: a read and its publish cost the
/// machine as much as some thirty rows.
const STREAM_ROWS: usize = 4;
/// Then the next read waits this long for each row of this one, up to the longest: the faster rows come, the
/// more of them share a read, and the writers have the rest of the machine.
const GATHER_PER_ROW: Duration = Duration::from_micros(500);
const GATHER_MAX: Duration = Duration::from_millis(5);

/// The pauses between reads that show nothing: doubling from the shortest to the longest.
#[derive(Debug)]
pub(super) struct Pace {
    min: Duration,
    max: Duration,
    quiet_reads: u32,
}

impl Pace {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), quiet_reads: 0 }
    }

    /// A read showed rows.
    pub(super) fn busy(&mut self) {
        self.quiet_reads = 0;
    }

    /// A read showed none.
    pub(super) fn quiet(&mut self) {
        self.quiet_reads = self.quiet_reads.saturating_add(1);
    }

    /// Whether it has been quiet for long enough to ask for the bell.
    pub(super) fn may_sleep(&self) -> bool {
        self.quiet_reads >= QUIET_READS_TO_SLEEP
    }

    /// The pause before the next read.
    pub(super) fn pause(&self) -> Duration {
        // The first two pauses are the shortest one: that is when the bell is being armed.
        let doublings = self.quiet_reads.saturating_sub(QUIET_READS_TO_SLEEP).min(16);
        self.min.saturating_mul(1 << doublings).min(self.max)
    }

    /// The least time from the beginning of a read that took `cost` and showed all there was, to that of the next.
    pub(super) fn rest(cost: Duration, rows: usize) -> Duration {
        let count = u32::try_from(rows).unwrap_or(u32::MAX);
        if cost > PROBING_READ && cost > ROW_COST * count {
            cost * 3
        } else if rows >= STREAM_ROWS {
            GATHER_PER_ROW.saturating_mul(count).min(GATHER_MAX)
        } else if rows > 0 {
            READ_INTERVAL
        } else {
            Duration::ZERO
        }
    }
}

/// A lock read is followed by a pause of this many times its cost: it takes every partition of the
/// server's lock table, so it must stay rare where there are many locks.
const LOCK_READ_COST_FACTOR: u32 = 20;
/// Rolled-back ids hold nobody back, but one that is proved dead soon is never written down as a hole.
const LOCK_READ_PAUSE_MIN: Duration = Duration::from_millis(2);
/// While a long transaction keeps holes open, its end is noticed this much later at most.
const LOCK_READ_PAUSE_MAX: Duration = Duration::from_millis(250);
/// Without holes, locks are read for the guards alone: a restarted identity is noticed by then.
const GUARD_INTERVAL: Duration = Duration::from_secs(5);

/// When to read the locks.
#[derive(Debug)]
pub(super) struct LockPace {
    begun: Instant,
    last: Option<Instant>,
    cost: Duration,
    pause: Duration,
    demanded: bool,
}

impl LockPace {
    pub(super) fn new(begun: Instant) -> Self {
        let (cost, pause) = (Duration::ZERO, LOCK_READ_PAUSE_MIN);
        Self { begun, last: None, cost, pause, demanded: false }
    }

    /// Something looks wrong: read the locks next, whatever the pace.
    pub(super) fn demand(&mut self) {
        self.demanded = true;
    }

    /// New holes: their transactions are likely to end soon.
    pub(super) fn hasten(&mut self) {
        self.pause = LOCK_READ_PAUSE_MIN;
    }

    /// A lock read took `cost`; `progress` if it brought a hole further.
    pub(super) fn done(&mut self, now: Instant, cost: Duration, progress: bool) {
        self.pause =
            if progress { LOCK_READ_PAUSE_MIN } else { (self.pause * 2).min(LOCK_READ_PAUSE_MAX) };
        (self.last, self.cost, self.demanded) = (Some(now), cost, false);
    }

    /// When the next one is due.
    pub(super) fn due(&self, now: Instant, wants_locks: bool) -> Instant {
        match self.last {
            Some(last) if !self.demanded => {
                let pause = if wants_locks { self.pause } else { GUARD_INTERVAL };
                last + pause.max(self.cost * LOCK_READ_COST_FACTOR)
            }
            // Behind the first read of rows: after a take-over somebody waits for it.
            None if !self.demanded => self.begun + self.pause,
            _ => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_double_up_to_the_longest_and_start_again() {
        let mut pace = Pace::new(MS, 20 * MS);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pace.quiet();
            pauses.push(pace.pause().as_millis());
        }
        assert_eq!(pauses, [1, 1, 2, 4, 8, 16, 20, 20]);
        assert!(pace.may_sleep());
        pace.busy();
        pace.quiet();
        assert_eq!(pace.pause(), MS);
        assert!(!pace.may_sleep());
    }

    #[test]
    fn a_read_that_cost_more_than_it_showed_is_followed_by_a_rest() {
        assert_eq!(Pace::rest(60 * MS, 10), 180 * MS);
        assert_eq!(Pace::rest(4 * MS, 0), Duration::ZERO);
        assert_eq!(Pace::rest(20 * MS, 1_500), GATHER_MAX);
    }

    #[test]
    fn the_faster_rows_come_the_longer_a_read_gathers() {
        let cost = MS / 2;
        assert_eq!([1, 3].map(|rows| Pace::rest(cost, rows)), [READ_INTERVAL; 2]);
        assert_eq!([4, 5, 100].map(|rows| Pace::rest(cost, rows)), [2 * MS, MS * 5 / 2, 5 * MS]);
    }

    #[test]
    fn lock_reads_slow_down_while_nothing_clears_and_cost_little() {
        let (now, mut pace) = (Instant::now(), LockPace::new(Instant::now()));
        let begun = pace.begun;
        assert_eq!(pace.due(now, false), begun + LOCK_READ_PAUSE_MIN);
        pace.demand();
        assert_eq!(pace.due(now, false), now);
        pace.done(now, Duration::ZERO, false);
        assert_eq!(pace.due(now, true), now + 4 * MS);
        for _ in 0..20 {
            pace.done(now, Duration::ZERO, false);
        }
        assert_eq!(pace.due(now, true), now + LOCK_READ_PAUSE_MAX);
        assert_eq!(pace.due(now, false), now + GUARD_INTERVAL);
        pace.hasten();
        assert_eq!(pace.due(now, true), now + LOCK_READ_PAUSE_MIN);
        pace.done(now, 100 * MS, true);
        assert_eq!(pace.due(now, true), now + 2000 * MS);
        pace.demand();
        assert_eq!(pace.due(now, false), now);
    }
}
