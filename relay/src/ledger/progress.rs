//! What is settled, what waits to be marked, and what the next mark may hold. Pure.
//!
//! The ledger's cost grows with its gaps, so they are capped: a mark prefers the contiguous prefix,
//! keeps islands above it in memory, and where the gaps are ids that nobody has seen yet it settles
//! them as recorded open holes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Buried, Mark, SetAside};
use crate::range::{IdRange, RangeSet};

/// Gaps a mark may leave in the ledger. An update costs 25 µs at 0 gaps, 40 µs at 60 and 0.7 ms at
/// 500 (measured), so the cap stands where the curve is still flat.
pub const GAPS_MAX: usize = 64;

/// Dead ranges that wait in memory for company: each recording is a row, and a rolled-back id is
/// in no hurry.
const DEAD_RANGES_TOGETHER: usize = 500;

/// The longest that dead ranges wait.
const DEAD_WAIT: Duration = Duration::from_secs(1);

/// Open holes recorded by one mark at most, so that one statement stays small.
const OPENED_RANGES_MAX: usize = 10_000;

/// What becomes of an id besides being settled.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Note {
    SetAside(SetAside),
    Buried(Buried),
}

/// The progress of one pipeline: the ledger as the database has it, and what is not in it yet.
#[derive(Debug)]
pub struct Progress {
    /// `ledger.settled`.
    ledger: RangeSet,
    /// The open hole rows.
    recorded: RangeSet,
    /// Ids that were read past and not seen: open holes, recorded or not.
    unseen: RangeSet,
    /// Ids that are dealt with and not marked.
    done: RangeSet,
    /// What else is to be written when an id of `done` is marked.
    notes: BTreeMap<i64, Note>,
    /// Ids proved dead and not marked.
    dead: RangeSet,
    dead_since: Option<Instant>,
    /// Changes of rows that are settled already (they stand in `retry`).
    changes: Mark,
}

impl Progress {
    /// Starts from what the database has: `ledger.settled` and the open hole rows.
    #[must_use]
    pub fn new(ledger: RangeSet, recorded: RangeSet) -> Self {
        let mut unseen = recorded.clone();
        // A gap of the ledger is pending, and nobody has seen it since the start: the reader treats
        // it as a hole, and so does this.
        if let (Some(first), Some(last)) = (ledger.first(), ledger.last()) {
            unseen.union(&ledger.gaps(first.start..last.end));
        }
        Self {
            ledger,
            recorded,
            unseen,
            done: RangeSet::new(),
            notes: BTreeMap::new(),
            dead: RangeSet::new(),
            dead_since: None,
            changes: Mark::default(),
        }
    }

    /// The id behind the highest settled one.
    #[must_use]
    pub fn last(&self) -> Option<i64> {
        self.ledger.last().map(|range| range.end)
    }

    /// Ids were read past and not seen.
    pub fn opened(&mut self, range: IdRange) {
        self.unseen.insert_range(range);
    }

    /// A row was read.
    pub fn seen(&mut self, id: i64) {
        if !self.unseen.is_empty() {
            self.unseen.remove(id);
        }
    }

    /// Unseen ids were proved dead.
    pub fn dead(&mut self, range: IdRange, now: Instant) {
        self.unseen.remove_range(range.clone());
        self.dead.insert_range(range);
        self.dead_since.get_or_insert(now);
    }

    /// The id was confirmed, or filtered by the routes.
    pub fn settle(&mut self, id: i64) {
        self.done.insert(id);
    }

    /// The id is settled by its row in `retry`.
    pub fn set_aside(&mut self, row: SetAside) {
        self.done.insert(row.id);
        self.notes.insert(row.id, Note::SetAside(row));
    }

    /// The id is settled by its row in `dead`.
    pub fn bury(&mut self, row: Buried) {
        self.done.insert(row.id);
        self.notes.insert(row.id, Note::Buried(row));
    }

    /// A row that stands in `retry` was delivered, or is gone. False if no mark had taken it there
    /// yet: then none will.
    pub fn resolve(&mut self, id: i64, key: Option<&str>) -> bool {
        if self.notes.remove(&id).is_some() {
            return false;
        }
        self.changes.resolved.push(id);
        self.changes.keys.extend(key.map(str::to_owned));
        true
    }

    /// A row that stands in `retry` was refused again.
    pub fn retry_again(&mut self, row: SetAside) {
        if let Some(note) = self.notes.get_mut(&row.id) {
            *note = Note::SetAside(row);
            return;
        }
        self.changes.keys.extend(row.key.clone());
        self.changes.set_aside.push(row);
    }

    /// A row that stands in `retry` goes to `dead`.
    pub fn bury_retry(&mut self, row: Buried) {
        if let Some(note) = self.notes.get_mut(&row.id) {
            *note = Note::Buried(row);
            return;
        }
        self.changes.keys.extend(row.key.clone());
        self.changes.buried.push(row);
    }

    /// Whether a mark would write anything.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.done.is_empty() || !self.changes.is_empty() || !self.dead.is_empty()
    }

    /// Islands that are dealt with and wait for what lies below them.
    #[must_use]
    pub fn islands(&self) -> usize {
        self.done.ranges_len()
    }

    /// Takes the next mark. The caller runs it and calls `marked`; until then no other is taken.
    pub fn take_mark(&mut self, now: Instant) -> Option<Mark> {
        let mut mark = std::mem::take(&mut self.changes);
        let left = mark.resolved.len() + mark.buried.len();
        let changed = mark.set_aside.len();
        let mut merged = self.ledger.clone();
        let mut cut = fill(&mut merged, &self.done);
        let waited = self.dead_since.is_some_and(|since| now >= since + DEAD_WAIT);
        if waited || cut < i64::MAX || self.dead.ranges_len() >= DEAD_RANGES_TOGETHER {
            mark.dead = self.dead.within(0..cut).collect();
            self.dead.remove_range(0..cut);
            self.dead_since = (!self.dead.is_empty()).then_some(now);
            merged.union(&mark.dead);
        }
        if cut < i64::MAX {
            // The gaps are at the cap. Those that nobody has seen are recorded, lowest first and all
            // that lie among what is done, so that the ids above them can be marked after all.
            let end = self.done.last().map_or(cut, |range| range.end);
            let mut fresh: RangeSet = self.unseen.within(0..end).collect();
            fresh.subtract(&merged);
            mark.opened = fresh.iter().take(OPENED_RANGES_MAX).collect();
            merged.union(&mark.opened);
            cut = fill(&mut merged, &self.done);
        }
        self.take_done(cut, &mut mark);
        mark.retry_growth = difference(mark.set_aside.len() - changed, left);
        mark.settled.union(&mark.opened);
        mark.settled.union(&mark.dead);
        // What is settled as a fresh hole stays open; every other recorded id that is settled now
        // is closed: split only by the mark that settles it, never at its arrival.
        let mut closing = mark.settled.clone();
        closing.subtract(&mark.opened);
        mark.closed = self.recorded.intersection(&closing);
        mark.keys.sort_unstable();
        mark.keys.dedup();
        (!mark.is_empty()).then_some(mark)
    }

    /// The mark was committed.
    pub fn marked(&mut self, mark: &Mark) {
        self.ledger.union(&mark.settled);
        self.recorded.union(&mark.opened);
        self.recorded.subtract(&mark.closed);
    }

    fn take_done(&mut self, cut: i64, mark: &mut Mark) {
        if cut == i64::MAX {
            mark.settled = std::mem::take(&mut self.done);
        } else {
            mark.settled = self.done.within(0..cut).collect();
            self.done.remove_range(0..cut);
        }
        let above = if cut == i64::MAX { BTreeMap::new() } else { self.notes.split_off(&cut) };
        for (_, note) in std::mem::replace(&mut self.notes, above) {
            match note {
                Note::SetAside(row) => {
                    mark.keys.extend(row.key.clone());
                    mark.set_aside.push(row);
                }
                Note::Buried(row) => {
                    mark.keys.extend(row.key.clone());
                    mark.buried.push(row);
                }
            }
        }
    }
}

/// Adds what is done to `merged`, lowest first, until its gaps are at the cap; returns the lowest
/// id that did not fit, or `i64::MAX`.
fn fill(merged: &mut RangeSet, done: &RangeSet) -> i64 {
    for range in done.iter() {
        merged.insert_range(range.clone());
        if merged.ranges_len() > GAPS_MAX + 1 {
            merged.remove_range(range.clone());
            return range.start;
        }
    }
    i64::MAX
}

fn difference(more: usize, less: usize) -> i64 {
    i64::try_from(more).unwrap_or(i64::MAX) - i64::try_from(less).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(id: i64) -> SetAside {
        SetAside {
            id,
            key: Some("k".into()),
            holds: true,
            attempts: 0,
            due_in: None,
            class: crate::ledger::Class::Held,
            reason: None,
        }
    }

    fn set(text: &str) -> RangeSet {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_is_marked_as_one_range() {
        // GIVEN ids 1..=5 confirmed out of order
        let mut progress = Progress::new(RangeSet::new(), RangeSet::new());
        for id in [5, 1, 3, 2, 4] {
            progress.settle(id);
        }
        // WHEN the mark is taken
        let mark = progress.take_mark(Instant::now()).unwrap();
        // THEN it is one range, and a plain one
        assert_eq!(mark.settled, set("{[1,6)}"));
        assert!(mark.is_plain());
        progress.marked(&mark);
        assert!(!progress.has_work());
    }

    #[test]
    fn islands_above_the_cap_wait_for_what_lies_below() {
        // GIVEN every second of 1,000 ids confirmed, the others in flight
        let mut progress = Progress::new(RangeSet::new(), RangeSet::new());
        (1..1000).step_by(2).for_each(|id| progress.settle(id));
        // WHEN a mark is taken
        let mark = progress.take_mark(Instant::now()).unwrap();
        // THEN the ledger gets no more gaps than the cap, and the rest follows when they are filled
        assert_eq!(mark.settled.ranges_len(), GAPS_MAX + 1);
        progress.marked(&mark);
        assert!(progress.take_mark(Instant::now()).is_none());
        (2..1000).step_by(2).for_each(|id| progress.settle(id));
        let mark = progress.take_mark(Instant::now()).unwrap();
        progress.marked(&mark);
        assert_eq!(progress.ledger, set("{[1,1000)}"));
    }

    #[test]
    fn many_unseen_ids_are_recorded_as_open_holes_and_closed_by_the_mark_that_settles_them() {
        // GIVEN 500 unseen ids between confirmed ones
        let mut progress = Progress::new(RangeSet::new(), RangeSet::new());
        for id in (1..1000).step_by(2) {
            progress.settle(id);
            progress.opened(id + 1..id + 2);
        }
        // WHEN marked
        let mark = progress.take_mark(Instant::now()).unwrap();
        progress.marked(&mark);
        // THEN everything is settled, and what nobody saw is recorded as open
        assert!(progress.ledger.ranges_len() <= GAPS_MAX + 1);
        assert!(!mark.opened.is_empty());
        let opened = mark.opened.clone();
        // WHEN one of them arrives, nothing is closed yet
        let id = opened.first().unwrap().start;
        progress.seen(id);
        assert!(progress.take_mark(Instant::now()).is_none());
        // WHEN it is settled, the same mark closes the hole
        progress.settle(id);
        let mark = progress.take_mark(Instant::now()).unwrap();
        assert_eq!(mark.closed, [id..id + 1].into_iter().collect());
        // WHEN another is proved dead, it is closed and remembered as dead
        progress.marked(&mark);
        let id = opened.last().unwrap().start;
        let now = Instant::now();
        progress.dead(id..id + 1, now);
        let mark = progress.take_mark(now + DEAD_WAIT).unwrap();
        assert_eq!(mark.closed, [id..id + 1].into_iter().collect());
        assert_eq!(mark.dead, mark.closed);
    }

    #[test]
    fn a_row_is_set_aside_by_the_mark_that_settles_it_and_no_earlier() {
        // GIVEN a set-aside row far above the gaps' cap
        let mut progress = Progress::new(RangeSet::new(), RangeSet::new());
        (1..1000).step_by(2).for_each(|id| progress.settle(id));
        progress.set_aside(held(2001));
        // WHEN a mark is taken that does not reach it
        let mark = progress.take_mark(Instant::now()).unwrap();
        assert!(mark.set_aside.is_empty());
        progress.marked(&mark);
        // THEN it comes with its id
        (2..1000).step_by(2).for_each(|id| progress.settle(id));
        let mark = progress.take_mark(Instant::now()).unwrap();
        assert!(mark.settled.contains(2001));
        assert_eq!(mark.set_aside, vec![held(2001)]);
    }

    #[test]
    fn a_gap_of_the_ledger_counts_as_unseen_after_a_restart() {
        let progress = Progress::new(set("{[1,5),[8,10)}"), set("{[2,3)}"));
        assert_eq!(progress.unseen, set("{[2,3),[5,8)}"));
    }
}
