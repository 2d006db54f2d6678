//! When what happened to each row: written by the writer's connections and the consumer at once.

use std::sync::atomic::{AtomicI64, Ordering};

/// Microseconds since the epoch, 0 = not yet.
#[derive(Default)]
pub(super) struct Slot {
    /// Of the row.
    pub(super) id: AtomicI64,
    pub(super) commit_sent: AtomicI64,
    pub(super) commit_replied: AtomicI64,
    pub(super) consumed: AtomicI64,
    /// Kafka's LogAppendTime, in the middle of its millisecond.
    pub(super) logged: AtomicI64,
    pub(super) settled: AtomicI64,
}

/// One slot a row, by the number that its payload carries.
pub(crate) struct Journal {
    slots: Vec<Slot>,
}

impl Journal {
    pub(crate) fn new(rows: u64) -> Self {
        Self { slots: (0..rows).map(|_| Slot::default()).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn slot(&self, number: usize) -> &Slot {
        &self.slots[number]
    }

    /// The highest id of a row.
    pub(super) fn last_id(&self) -> i64 {
        self.slots.iter().map(|slot| get(&slot.id)).max().unwrap_or(0)
    }

    /// Takes over what the ledger said: at these times everything below these ids was settled.
    pub(super) fn settled(&self, looks: Vec<(i64, i64)>) {
        for slot in &self.slots {
            let first = looks.partition_point(|&(_, below)| below <= get(&slot.id));
            let at = looks.get(first).map_or(0, |&(at, _)| at);
            slot.settled.store(at, Ordering::Relaxed);
        }
    }

    /// The times of all rows but the first ones.
    pub(crate) fn times(&self, skipped: usize) -> Times<'_> {
        Times(&self.slots[skipped.min(self.slots.len())..])
    }
}

/// Times of some rows.
pub(crate) struct Times<'a>(&'a [Slot]);

impl Times<'_> {
    /// From before COMMIT until the consumer has it.
    pub(crate) fn consumed(&self) -> Percentiles {
        self.between(|slot| (&slot.commit_sent, &slot.consumed))
    }

    /// From the reply to COMMIT until the consumer has it.
    pub(crate) fn after_reply(&self) -> Percentiles {
        self.between(|slot| (&slot.commit_replied, &slot.consumed))
    }

    /// From before COMMIT until Kafka has it.
    pub(crate) fn logged(&self) -> Percentiles {
        self.between(|slot| (&slot.commit_sent, &slot.logged))
    }

    /// From before COMMIT until the ledger has it.
    pub(crate) fn settled(&self) -> Percentiles {
        self.between(|slot| (&slot.commit_sent, &slot.settled))
    }

    fn between(&self, ends: impl Fn(&Slot) -> (&AtomicI64, &AtomicI64)) -> Percentiles {
        let time = |slot| {
            let (from, to) = ends(slot);
            (get(to) > 0).then(|| get(to) - get(from))
        };
        Percentiles::of(self.0.iter().filter_map(time).collect())
    }
}

fn get(time: &AtomicI64) -> i64 {
    time.load(Ordering::Relaxed)
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Percentiles {
    /// Of microseconds; NaN if there are none.
    fn of(mut times: Vec<i64>) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let rank = (times.len() as f64 * share).ceil() as usize;
            times.get(rank.saturating_sub(1)).map_or(f64::NAN, |&us| us as f64 / 1e3)
        };
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_time_that_so_many_do_not_exceed() {
        let times = (1..=1000).map(|ms| ms * 1000).collect();
        let expected = Percentiles { p50: 500.0, p99: 990.0, p999: 999.0 };
        assert_eq!(Percentiles::of(times), expected);
    }

    #[test]
    fn a_row_is_settled_at_the_first_look_that_is_past_it() {
        let journal = Journal::new(2);
        journal.slots[0].id.store(7, Ordering::Relaxed);
        journal.slots[1].id.store(8, Ordering::Relaxed);
        journal.settled(vec![(100, 7), (200, 8), (300, 9)]);
        assert_eq!(get(&journal.slots[0].settled), 200);
        assert_eq!(get(&journal.slots[1].settled), 300);
    }
}
