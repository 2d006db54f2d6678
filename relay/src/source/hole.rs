//! Open holes: ids below the head that no read has shown, and the proof that one is dead.
//!
//! An id is drawn under a RowExclusiveLock that its transaction keeps until it is over and its rows
//! are visible (or gone). A hole was drawn before the id above it was read. So its transaction is
//! among the holders of any *later* lock read, or it is over; once every holder of that lock read is
//! gone, one more read sees the row, or nobody ever will.
//!
//! Holders are numbered by the lock read that first showed them. A hole that was open at lock read
//! `g` waits exactly for the holders with a number `<= g`: one number stands for a whole set of
//! holders, and a hundred thousand holes of one transaction are one entry.

use std::collections::{BTreeMap, HashMap};

use crate::range::{IdRange, RangeSet};

/// A transaction that may still commit ids that were drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    /// `pg_locks.virtualtransaction`. Never the pid: a prepared transaction has none, and keeps this.
    pub(super) transaction: String,
    /// Prepared: it draws no further id.
    pub(super) prepared: bool,
}

/// What is known of a holder.
#[derive(Debug)]
struct Seen {
    /// The lock read that first showed it.
    first: u64,
    /// It was prepared at an earlier lock read.
    prepared: bool,
    /// The sequence's `last_value` at some time after it was prepared: it drew nothing above.
    drew_up_to: Option<i64>,
}

/// What a read changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Ids passed and not seen.
    pub(super) opened: Vec<IdRange>,
    /// Ids that nobody can commit any more.
    pub(super) dead: Vec<IdRange>,
}

/// The head and the holes below it.
#[derive(Debug, Default)]
pub(super) struct Holes {
    /// The highest id ever read. Never lowered.
    hi: i64,
    /// Every hole; part of every read, or order is lost. The union of the three below.
    open: RangeSet,
    /// Missed, and no lock read since.
    fresh: RangeSet,
    /// By the lock read that followed the miss.
    waiting: BTreeMap<u64, RangeSet>,
    /// Every possible writer is gone: dead when one more read misses it.
    cleared: RangeSet,
    holders: HashMap<String, Seen>,
    lock_reads: u64,
}

impl Holes {
    /// Holes of an earlier life, and the head they lie below.
    ///
    /// They need no miss of our own: they were drawn before the ledger settled an id above them.
    pub(super) fn new(hi: i64, open: RangeSet) -> Self {
        Self { hi, fresh: open.clone(), open, ..Self::default() }
    }

    /// The highest id ever read.
    pub(super) fn hi(&self) -> i64 {
        self.hi
    }

    /// Every hole.
    pub(super) fn open(&self) -> &RangeSet {
        &self.open
    }

    /// Whether a lock read could bring a hole further.
    pub(super) fn wants_locks(&self) -> bool {
        !self.fresh.is_empty() || !self.waiting.is_empty()
    }

    /// Takes the result of a read in which every open hole took part: ids ascending, and whether the
    /// result was cut by its limit (then it says nothing about ids from its last one on).
    pub(super) fn read(&mut self, ids: &[i64], cut: bool) -> Progress {
        let covered = match ids.last() {
            Some(&last) if cut => last,
            None if cut => i64::MIN,
            _ => i64::MAX,
        };
        let first_new = ids.partition_point(|&id| id <= self.hi);
        for &id in &ids[..first_new] {
            self.arrived(id);
        }
        let dead: Vec<IdRange> = self.cleared.within(i64::MIN..covered).collect();
        for range in &dead {
            self.cleared.remove_range(range.clone());
            self.open.remove_range(range.clone());
        }
        let mut opened = Vec::new();
        for &id in &ids[first_new..] {
            if id > self.hi + 1 {
                opened.push(self.hi + 1..id);
            }
            self.hi = id;
        }
        for range in &opened {
            self.fresh.insert_range(range.clone());
            self.open.insert_range(range.clone());
        }
        Progress { opened, dead }
    }

    /// Takes a lock read that began after the last read had ended: the holders of a RowExclusiveLock
    /// on the table, and the sequence's `last_value`. Returns whether a hole came further.
    pub(super) fn locks(&mut self, holders: &[Holder], last_value: i64) -> bool {
        self.lock_reads += 1;
        self.observe(holders, last_value);
        if !self.fresh.is_empty() {
            self.waiting.insert(self.lock_reads, std::mem::take(&mut self.fresh));
        }
        let cleared = self.clear(last_value);
        self.merge();
        cleared
    }

    /// The transaction that has kept holes open for the longest time.
    pub(super) fn oldest_holder(&self) -> Option<&str> {
        let (&newest, _) = self.waiting.last_key_value()?;
        self.holders
            .iter()
            .filter(|(_, seen)| seen.first <= newest)
            .min_by_key(|(_, seen)| (seen.drew_up_to.is_some(), seen.first))
            .map(|(transaction, _)| transaction.as_str())
    }

    fn arrived(&mut self, id: i64) {
        self.open.remove(id);
        self.fresh.remove(id);
        self.cleared.remove(id);
        self.waiting.retain(|_, holes| {
            holes.remove(id);
            !holes.is_empty()
        });
    }

    fn observe(&mut self, holders: &[Holder], last_value: i64) {
        let mut before = std::mem::take(&mut self.holders);
        for holder in holders {
            let mut seen = before.remove(&holder.transaction).unwrap_or(Seen {
                first: self.lock_reads,
                prepared: false,
                drew_up_to: None,
            });
            // An earlier lock read showed it prepared, so this `last_value` was read later than that.
            if seen.prepared && seen.drew_up_to.is_none() {
                seen.drew_up_to = Some(last_value);
            }
            seen.prepared |= holder.prepared;
            self.holders.insert(holder.transaction.clone(), seen);
        }
    }

    /// Moves what waits for nobody any more to `cleared`. What lies above `last_value` was never
    /// drawn and stays.
    fn clear(&mut self, last_value: i64) -> bool {
        let oldest = self
            .holders
            .values()
            .filter(|seen| seen.drew_up_to.is_none())
            .map(|seen| seen.first)
            .min()
            .unwrap_or(u64::MAX);
        let (holders, cleared) = (&self.holders, &mut self.cleared);
        let mut any = false;
        self.waiting.retain(|&lock_read, holes| {
            if oldest <= lock_read {
                return true;
            }
            let prepared_up_to = holders
                .values()
                .filter(|seen| seen.first <= lock_read)
                .filter_map(|seen| seen.drew_up_to)
                .max()
                .unwrap_or(i64::MIN);
            let free: Vec<IdRange> = holes
                .within(prepared_up_to.saturating_add(1)..last_value.saturating_add(1))
                .collect();
            for range in free {
                holes.remove_range(range.clone());
                cleared.insert_range(range);
                any = true;
            }
            !holes.is_empty()
        });
        any
    }

    /// Two lock reads between which no living holder appeared wait for the same ones.
    fn merge(&mut self) {
        let mut firsts: Vec<u64> = self.holders.values().map(|seen| seen.first).collect();
        firsts.sort_unstable();
        let mut merged: BTreeMap<u64, RangeSet> = BTreeMap::new();
        for (lock_read, holes) in std::mem::take(&mut self.waiting) {
            if let Some(mut last) = merged.last_entry() {
                let between = firsts.partition_point(|&first| first <= *last.key());
                if firsts.get(between).is_none_or(|&first| first > lock_read) {
                    // The smaller set into the larger one: a long transaction's holes are many.
                    let (mut large, mut small) = (std::mem::take(last.get_mut()), holes);
                    if small.ranges_len() > large.ranges_len() {
                        std::mem::swap(&mut large, &mut small);
                    }
                    large.union(&small);
                    *last.get_mut() = large;
                    continue;
                }
            }
            merged.insert(lock_read, holes);
        }
        self.waiting = merged;
    }
}

#[cfg(test)]
mod model;
