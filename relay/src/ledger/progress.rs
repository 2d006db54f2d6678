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

/// Rows that go to `retry` or `dead` by one mark, about: each costs some 30 µs, and while a mark is
/// under way the lease is not renewed.
const NOTES_MAX: usize = 2_000;

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
    /// Open holes that are not recorded: ids that were read past and not seen.
    unseen: RangeSet,
    /// Ids that are dealt with and not marked.
    done: RangeSet,
    /// The same, since the last mark, as they came: sorted together they are few ranges, one by one each
    /// of several partitions' would be a range of its own first.
    fresh: Vec<i64>,
    /// How many ids are in `done`, and in the mark under way.
    done_ids: u64,
    marking_ids: u64,
    /// What else is to be written when an id of `done` is marked.
    notes: BTreeMap<i64, Note>,
    /// Ids proved dead and not marked.
    dead: RangeSet,
    dead_since: Option<Instant>,
    /// Changes of rows that are settled already (they stand in `retry`).
    changes: Mark,
    gaps_max: usize,
}

impl Progress {
    /// Starts from what the database has: `ledger.settled` and the open hole rows.
    #[must_use]
    pub fn new(ledger: RangeSet, recorded: RangeSet) -> Self {
        // A gap of the ledger is pending, and nobody has seen it since the start: the reader treats
        // it as a hole, and so does this.
        let unseen = match (ledger.first(), ledger.last()) {
            (Some(first), Some(last)) => ledger.gaps(first.start..last.end),
            _ => RangeSet::new(),
        };
        Self {
            ledger,
            recorded,
            unseen,
            done: RangeSet::new(),
            fresh: Vec::new(),
            done_ids: 0,
            marking_ids: 0,
            notes: BTreeMap::new(),
            dead: RangeSet::new(),
            dead_since: None,
            changes: Mark::default(),
            gaps_max: GAPS_MAX,
        }
    }

    /// With another cap, so that a test reaches it soon.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn with_gaps_max(self, gaps_max: usize) -> Self {
        Self { gaps_max, ..self }
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
        self.fresh.push(id);
    }

    /// The id is settled by its row in `retry`.
    pub fn set_aside(&mut self, row: SetAside) {
        self.settle(row.id);
        self.notes.insert(row.id, Note::SetAside(row));
    }

    /// The id is settled by its row in `dead`.
    pub fn bury(&mut self, row: Buried) {
        self.settle(row.id);
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
        self.changes.set_aside.extend(row.holding_row());
        self.changes.buried.push(row);
    }

    /// Whether a mark would write anything.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.fresh.is_empty()
            || !self.done.is_empty()
            || !self.changes.is_empty()
            || !self.dead.is_empty()
    }

    /// Whether a mark would change `retry`: later rows of the keys wait for it.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty() || !self.notes.is_empty()
    }

    /// Whether more islands wait for what lies below them than the ledger may have gaps.
    #[must_use]
    pub fn is_crowded(&mut self) -> bool {
        self.gather();
        self.done.ranges_len() > self.gaps_max
    }

    /// Ids that are dealt with and in no committed mark: what a crash would send again.
    #[must_use]
    pub fn unmarked(&self) -> usize {
        self.fresh.len() + usize::try_from(self.done_ids + self.marking_ids).unwrap_or(usize::MAX)
    }

    /// Takes the next mark. The caller runs it and calls `marked`; until then no other is taken.
    pub fn take_mark(&mut self, now: Instant) -> Option<Mark> {
        self.gather();
        let mut mark = std::mem::take(&mut self.changes);
        let left = mark.resolved.len() + mark.buried.iter().filter(|row| !row.holds).count();
        let changed = mark.set_aside.len();
        let (cut, with) = self.reach(now);
        if with.dead {
            mark.dead = self.dead.within(0..cut).collect();
            self.dead.remove_range(0..cut);
            self.dead_since = (!self.dead.is_empty()).then_some(now);
        }
        if with.unseen {
            mark.opened = self.unseen.within(0..cut).collect();
            self.unseen.remove_range(0..cut);
        }
        self.take_done(self.noted(cut), &mut mark);
        (self.done_ids, self.marking_ids) = (self.done.ids_len(), mark.settled.ids_len());
        mark.retry_growth = difference(mark.set_aside.len() - changed, left);
        mark.settled.union(&mark.opened);
        mark.settled.union(&mark.dead);
        // What is settled as a fresh hole stays open; every other recorded id that is settled now
        // is closed: split only by the mark that settles it, never at its arrival.
        let mut closing = mark.settled.clone();
        closing.subtract(&mark.opened);
        mark.closed = closing.intersection(&self.recorded);
        mark.keys.sort_unstable();
        mark.keys.dedup();
        (!mark.is_empty()).then_some(mark)
    }

    /// The mark was committed.
    pub fn marked(&mut self, mark: &Mark) {
        self.marking_ids = 0;
        self.ledger.union(&mark.settled);
        self.recorded.union(&mark.opened);
        self.recorded.subtract(&mark.closed);
    }

    fn gather(&mut self) {
        self.fresh.sort_unstable();
        for run in self.fresh.chunk_by(|&id, &next| next == id + 1) {
            self.done.insert_range(run[0]..run[run.len() - 1] + 1);
        }
        self.done_ids += self.fresh.len() as u64;
        self.fresh.clear();
    }

    /// Up to which id (exclusive) the next mark settles, and what besides `done`.
    fn reach(&self, now: Instant) -> (i64, With) {
        let cut = self.fill(self.done.iter());
        // At the cap, holes that nobody has seen are recorded, lowest first, and the ids above them
        // can be marked after all.
        let unseen = cut < i64::MAX;
        let waited = self.dead_since.is_some_and(|since| now >= since + DEAD_WAIT);
        let dead = unseen || waited || self.dead.ranges_len() >= DEAD_RANGES_TOGETHER;
        let with = With { dead, unseen };
        if !dead {
            return (cut, with);
        }
        let dead = self.dead.iter().take(if with.dead { usize::MAX } else { 0 });
        let unseen = self.unseen.iter().take(if with.unseen { OPENED_RANGES_MAX } else { 0 });
        let bound = self.unseen.iter().nth(OPENED_RANGES_MAX).filter(|_| with.unseen);
        let cut = self.fill(ascending([&mut self.done.iter(), &mut { dead }, &mut { unseen }]));
        (bound.map_or(cut, |range| cut.min(range.start)), with)
    }

    /// Adds ranges to the ledger in thought, lowest first; returns the first that would give it a gap
    /// too many (its lowest id), or `i64::MAX`. What closes a gap, or makes none, always fits.
    fn fill(&self, ranges: impl Iterator<Item = IdRange>) -> i64 {
        let mut merged = self.ledger.clone();
        for range in ranges {
            let (before, start) = (merged.ranges_len(), range.start);
            merged.insert_range(range);
            if merged.ranges_len() > before.max(self.gaps_max + 1) {
                return start;
            }
        }
        i64::MAX
    }

    /// `cut`, or a lower one if so many rows would go to `retry` at once, as far as that makes no gap.
    fn noted(&self, cut: i64) -> i64 {
        let noted = self.notes.keys().nth(NOTES_MAX).filter(|&&id| id < cut);
        let fits = |&&id: &&i64| self.fill(self.done.within(0..id)) == i64::MAX;
        noted.filter(fits).copied().unwrap_or(cut)
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
                    mark.set_aside.extend(row.holding_row());
                    mark.buried.push(row);
                }
            }
        }
    }
}

/// What a mark settles besides what is done.
#[derive(Debug, Clone, Copy)]
struct With {
    dead: bool,
    unseen: bool,
}

/// Merges ascending ranges into one ascending sequence, as far as it is asked for. What touches comes
/// as one range: apart, the first part could look like an island that makes a gap.
fn ascending<'a>(
    sources: [&'a mut dyn Iterator<Item = IdRange>; 3],
) -> impl Iterator<Item = IdRange> + 'a {
    let mut sources = sources.map(Iterator::peekable);
    let mut lowest = move |below: i64| {
        let heads = sources.iter_mut().map(|source| source.peek().map_or(i64::MAX, |r| r.start));
        let (lowest, start) = heads.enumerate().min_by_key(|&(_, start)| start)?;
        (start <= below).then(|| sources[lowest].next()).flatten()
    };
    std::iter::from_fn(move || {
        let mut run = lowest(i64::MAX - 1)?;
        while let Some(next) = lowest(run.end) {
            run.end = run.end.max(next.end);
        }
        Some(run)
    })
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
            due: crate::ledger::Due::Head,
            class: crate::ledger::Class::Held,
            reason: None,
            destination: None,
            sent: false,
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
        assert_eq!(mark.closed, RangeSet::from(id..id + 1));
        // WHEN another is proved dead, it is closed and remembered as dead
        progress.marked(&mark);
        let id = opened.last().unwrap().start;
        let now = Instant::now();
        progress.dead(id..id + 1, now);
        let mark = progress.take_mark(now + DEAD_WAIT).unwrap();
        assert_eq!(mark.closed, RangeSet::from(id..id + 1));
        assert_eq!(mark.dead, mark.closed);
    }

    #[test]
    fn the_prefix_advances_however_many_gaps_there_are() {
        // GIVEN a ledger with more gaps than the cap, each of them unseen, in flight or dead in turn
        let ledger: RangeSet = (0..300).map(|n| n * 10 + 1..n * 10 + 6).collect();
        let mut progress = Progress::new(ledger, RangeSet::new());
        let now = Instant::now();
        for n in 0..300 {
            match n % 3 {
                0 => (6..11).for_each(|id| progress.settle(n * 10 + id)),
                1 => progress.dead(n * 10 + 6..n * 10 + 11, now),
                _ => {}
            }
        }
        // WHEN marks are taken
        for round in 0..10 {
            if let Some(mark) = progress.take_mark(now + DEAD_WAIT * round) {
                let before = progress.ledger.ranges_len();
                progress.marked(&mark);
                assert!(progress.ledger.ranges_len() <= before);
            }
        }
        // THEN all that can be settled is, and nothing that was not seen
        assert!(progress.done.is_empty() && progress.dead.is_empty());
        assert_eq!(progress.ledger.gaps(1..3001).ids_len(), 100 * 5);
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
        assert_eq!(progress.unseen, set("{[5,8)}"));
        assert_eq!(progress.recorded, set("{[2,3)}"));
    }
}
