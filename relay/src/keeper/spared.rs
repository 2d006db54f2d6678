//! Rows that the database refuses to delete: found by halving, left out, and tried again later.
//!
//! A foreign key or a trigger that a user added to the outbox refuses a whole statement over one row.
//! The statement is made again with half of its rows, down to one; that one is left out from then on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio_postgres::Error;

use crate::database::{Reaction, ends_session, reaction};

/// More rows than this are not left out: then it is no matter of single rows.
const SPARED_MAX: usize = 100;

/// They are tried again after so many intervals of retention.
const AGAIN_INTERVALS: u32 = 10;

/// One kind of deletion, and the rows that it leaves out.
#[derive(Debug)]
pub(super) struct Spared {
    ids: BTreeSet<i64>,
    rows_max: u64,
    /// Rows that one statement takes for now.
    rows: u64,
    since: Instant,
    again_after: Duration,
}

/// What to do about a statement that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Again, with fewer rows.
    Fewer,
    /// One row was left: name it to [`Spared::spare`].
    Name,
    /// No row is to blame.
    Give,
}

impl Spared {
    pub(super) fn new(rows_max: u64, interval: Duration) -> Self {
        Self {
            ids: BTreeSet::new(),
            rows_max,
            rows: rows_max,
            since: Instant::now(),
            again_after: interval * AGAIN_INTERVALS,
        }
    }

    /// How many rows the next statement takes.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The ids that it leaves out.
    pub(super) fn ids(&self) -> Vec<i64> {
        self.ids.iter().copied().collect()
    }

    /// A statement succeeded.
    pub(super) fn went_well(&mut self) {
        self.rows = self.rows.saturating_mul(2).min(self.rows_max);
    }

    /// A statement failed.
    pub(super) fn failed(&mut self, error: &Error) -> Next {
        self.met(reaction(error), ends_session(error))
    }

    fn met(&mut self, reaction: Reaction, ended: bool) -> Next {
        match reaction {
            Reaction::Refused | Reaction::Data if !ended => {}
            _ => return Next::Give,
        }
        if self.rows > 1 {
            self.rows /= 2;
            Next::Fewer
        } else if self.ids.len() < SPARED_MAX {
            Next::Name
        } else {
            Next::Give
        }
    }

    /// Leaves the row out; false if that was done already, so that it is not the one to blame.
    pub(super) fn spare(&mut self, id: i64) -> bool {
        self.ids.insert(id)
    }

    /// Whether it is time to try the rows again; then none is left out any more.
    pub(super) fn try_again(&mut self, now: Instant) -> bool {
        let due = !self.ids.is_empty() && now.duration_since(self.since) >= self.again_after;
        if due || self.ids.is_empty() {
            self.since = now;
        }
        if due {
            self.ids.clear();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spared() -> Spared {
        Spared::new(10, Duration::from_secs(60))
    }

    #[test]
    fn a_refused_statement_is_halved_down_to_one_row_which_is_left_out() {
        let mut spared = spared();
        let mut sizes = Vec::new();
        while spared.met(Reaction::Refused, false) == Next::Fewer {
            sizes.push(spared.rows());
        }
        assert_eq!(sizes, [5, 2, 1]);
        assert!(spared.spare(7) && !spared.spare(7));
        assert_eq!((spared.ids(), spared.rows()), (vec![7], 1));
        spared.went_well();
        assert_eq!(spared.rows(), 2);
    }

    #[test]
    fn an_error_that_is_no_rows_blames_none() {
        for reaction in [Reaction::Again, Reaction::Resources, Reaction::Permission] {
            assert_eq!(spared().met(reaction, false), Next::Give, "{reaction:?}");
        }
        assert_eq!(spared().met(Reaction::Refused, true), Next::Give);
    }

    #[test]
    fn a_trigger_that_refuses_every_row_is_not_answered_by_leaving_out_every_row() {
        let mut spared = Spared::new(1, Duration::from_secs(60));
        for id in 0..SPARED_MAX {
            assert_eq!(spared.met(Reaction::Refused, false), Next::Name);
            spared.spare(i64::try_from(id).expect("a small number"));
        }
        assert_eq!(spared.met(Reaction::Refused, false), Next::Give);
    }

    #[test]
    fn rows_that_were_left_out_are_tried_again() {
        let mut spared = spared();
        let begun = Instant::now();
        assert!(!spared.try_again(begun));
        spared.spare(7);
        assert!(!spared.try_again(begun + Duration::from_secs(599)));
        assert!(spared.try_again(begun + Duration::from_secs(600)));
        assert_eq!(spared.ids(), Vec::<i64>::new());
    }
}
