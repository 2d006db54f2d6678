//! The verdict, and how it prints: one row of a table a broker.

use std::fmt;

use uuid::Uuid;

use super::{Inversion, Phantom};

/// How many examples of each class a failed test shows.
const EXAMPLES_MAX: usize = 5;

/// What the comparison found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// Messages in the journal.
    pub(crate) committed: usize,
    /// Distinct committed messages that arrived unchanged.
    pub(crate) received: usize,
    pub(crate) lost: Vec<Uuid>,
    pub(crate) phantom: Vec<Phantom>,
    pub(crate) reordered: Vec<Inversion>,
    /// Deliveries beyond the first of a row or of a message id.
    pub(crate) duplicates: usize,
    /// Duplicates with the message id and the content of the first.
    pub(crate) identical: usize,
    /// Duplicates that do not say that they were sent again (`x-outbox-resent`): what a predecessor
    /// sends after its successor's first message looks like that.
    pub(crate) unsaid: usize,
    /// From the writer's commit reply to the first delivery, ascending, microseconds. Negative when
    /// the message was there before the reply.
    pub(crate) latencies_us: Vec<i64>,
}

impl Report {
    /// Nothing lost, nothing invented, nothing out of order.
    pub(crate) fn is_exact(&self) -> bool {
        self.lost.is_empty() && self.phantom.is_empty() && self.reordered.is_empty()
    }

    /// # Panics
    /// With examples, unless everything arrived in order and every duplicate is the same message.
    pub(crate) fn assert_exact(&self, what: &str) {
        let exact = self.is_exact() && self.identical == self.duplicates;
        assert!(exact, "{what}:\n{}\n{}{}", Self::HEADING, self.row(what), self.examples());
    }

    /// The latency below which `percent` of the first deliveries stay, in microseconds.
    pub(crate) fn latency_us(&self, percent: usize) -> Option<i64> {
        let last = self.latencies_us.len().checked_sub(1)?;
        self.latencies_us.get((self.latencies_us.len() * percent / 100).min(last)).copied()
    }

    /// The names of the columns of [`row`](Self::row).
    pub(crate) const HEADING: &'static str = "\
broker     committed  received   lost  phantom  out of order  duplicates  same id and bytes   p50 ms   p99 ms";

    /// One row of the table.
    pub(crate) fn row(&self, broker: &str) -> String {
        let ms = |percent| {
            self.latency_us(percent).map_or("-".to_owned(), |us| format!("{:.1}", us as f64 / 1e3))
        };
        let share = match self.duplicates {
            0 => "-".to_owned(),
            all => format!("{} %", self.identical * 100 / all),
        };
        format!(
            "{broker:<10} {:>9} {:>9} {:>6} {:>8} {:>13} {:>11} {share:>18} {:>8} {:>8}",
            self.committed,
            self.received,
            self.lost.len(),
            self.phantom.len(),
            self.reordered.len(),
            self.duplicates,
            ms(50),
            ms(99),
        )
    }

    /// Adds what another part of the same run came to.
    pub(crate) fn add(&mut self, other: Self) {
        self.committed += other.committed;
        self.received += other.received;
        self.lost.extend(other.lost);
        self.phantom.extend(other.phantom);
        self.reordered.extend(other.reordered);
        self.duplicates += other.duplicates;
        self.identical += other.identical;
        self.unsaid += other.unsaid;
        self.latencies_us.extend(other.latencies_us);
        self.latencies_us.sort_unstable();
    }

    pub(crate) fn examples(&self) -> String {
        let mut text = String::new();
        let mut list = |name: &str, items: &[&dyn fmt::Debug]| {
            for item in items {
                text.push_str(&format!("\n  {name}: {item:?}"));
            }
        };
        for id in self.lost.iter().take(EXAMPLES_MAX) {
            list("lost", &[id]);
        }
        for phantom in self.phantom.iter().take(EXAMPLES_MAX) {
            list("phantom", &[phantom]);
        }
        for inversion in self.reordered.iter().take(EXAMPLES_MAX) {
            list("out of order", &[inversion]);
        }
        text
    }
}
