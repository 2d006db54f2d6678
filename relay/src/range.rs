//! Sets of ids as ranges: the shape of the ledger, of holes and of what waits to be marked.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A half-open range of ids, `start..end`.
pub type IdRange = std::ops::Range<i64>;

/// A set of ids, kept as disjoint ranges that never touch (`1..3` and `3..5` are one).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// start → end (exclusive).
    ranges: BTreeMap<i64, i64>,
}

impl RangeSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one id.
    pub fn insert(&mut self, id: i64) {
        self.insert_range(id..id + 1);
    }

    /// Adds a range; an empty one changes nothing.
    pub fn insert_range(&mut self, range: IdRange) {
        let (mut start, mut end) = (range.start, range.end);
        if start >= end {
            return;
        }
        if let Some((&s, e)) = self.ranges.range_mut(..=start).next_back()
            && *e >= start
        {
            if *e >= end {
                return;
            }
            // The common case, ids that come in order: the range in place grows, nothing is allocated.
            let next = self.ranges.range(s + 1..).next().map(|(&n, _)| n);
            if next.is_none_or(|next| next > end) {
                self.ranges.insert(s, end);
                return;
            }
            start = s;
        }
        while let Some((&s, &e)) = self.ranges.range(start..=end).next() {
            self.ranges.remove(&s);
            end = end.max(e);
        }
        self.ranges.insert(start, end);
    }

    /// Removes a range, whether or not it was there.
    pub fn remove_range(&mut self, range: IdRange) {
        if range.start >= range.end {
            return;
        }
        if let Some((&s, &e)) = self.ranges.range(..range.start).next_back()
            && e > range.start
        {
            self.ranges.insert(s, range.start);
            if e > range.end {
                self.ranges.insert(range.end, e);
                return;
            }
        }
        while let Some((&s, &e)) = self.ranges.range(range.start..range.end).next() {
            self.ranges.remove(&s);
            if e > range.end {
                self.ranges.insert(range.end, e);
            }
        }
    }

    /// Removes one id.
    pub fn remove(&mut self, id: i64) {
        self.remove_range(id..id + 1);
    }

    /// Adds every id of `other`.
    pub fn union(&mut self, other: &Self) {
        for range in other.iter() {
            self.insert_range(range);
        }
    }

    /// Removes every id of `other`.
    pub fn subtract(&mut self, other: &Self) {
        for range in other.iter() {
            self.remove_range(range);
        }
    }

    /// The ids of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::new();
        for range in self.iter() {
            for part in other.within(range) {
                both.insert_range(part);
            }
        }
        both
    }

    /// Whether the id is in the set.
    #[must_use]
    pub fn contains(&self, id: i64) -> bool {
        self.ranges.range(..=id).next_back().is_some_and(|(_, &end)| end > id)
    }

    /// The parts of the set that lie in `bounds`, ascending.
    pub fn within(&self, bounds: IdRange) -> impl Iterator<Item = IdRange> + '_ {
        let before = self
            .ranges
            .range(..bounds.start)
            .next_back()
            .filter(|&(_, &end)| end > bounds.start)
            .map(|(_, &end)| bounds.start..end.min(bounds.end));
        let rest = (bounds.start < bounds.end)
            .then(|| self.ranges.range(bounds.start..bounds.end))
            .into_iter()
            .flatten()
            .map(move |(&start, &end)| start..end.min(bounds.end));
        before.into_iter().filter(|r| r.start < r.end).chain(rest)
    }

    /// What is missing from the set inside `bounds`, ascending.
    #[must_use]
    pub fn gaps(&self, bounds: IdRange) -> Self {
        let mut gaps = Self::new();
        gaps.insert_range(bounds.clone());
        for range in self.within(bounds) {
            gaps.remove_range(range);
        }
        gaps
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = IdRange> + '_ {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }

    /// How many ranges.
    #[must_use]
    pub fn ranges_len(&self) -> usize {
        self.ranges.len()
    }

    /// How many ids.
    #[must_use]
    pub fn ids_len(&self) -> u64 {
        self.iter().map(|r| r.end.abs_diff(r.start)).sum()
    }

    /// Whether there is no id in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The lowest range.
    #[must_use]
    pub fn first(&self) -> Option<IdRange> {
        self.iter().next()
    }

    /// The highest range.
    #[must_use]
    pub fn last(&self) -> Option<IdRange> {
        self.iter().next_back()
    }
}

impl From<IdRange> for RangeSet {
    fn from(range: IdRange) -> Self {
        let mut set = Self::new();
        set.insert_range(range);
        set
    }
}

impl FromIterator<IdRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = IdRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert_range(range);
        }
        set
    }
}

/// PostgreSQL's text form of an `int8multirange`: `{[1,4),[7,8)}`.
impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (n, range) in self.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}[{},{})", range.start, range.end)?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a bounded `int8multirange`.
#[derive(Debug, thiserror::Error)]
#[error("not a bounded int8multirange: {0:?}")]
pub struct ParseRangeSetError(String);

impl FromStr for RangeSet {
    type Err = ParseRangeSetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseRangeSetError(text.chars().take(80).collect());
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(error)?;
        let mut set = Self::new();
        for part in inner.split_terminator(')') {
            let part = part.trim_start_matches(',').strip_prefix('[').ok_or_else(error)?;
            let (start, end) = part.split_once(',').ok_or_else(error)?;
            let start = start.parse().map_err(|_| error())?;
            let end = end.parse().map_err(|_| error())?;
            set.insert_range(start..end);
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ids(set: &RangeSet) -> BTreeSet<i64> {
        set.iter().flatten().collect()
    }

    fn operations() -> impl Strategy<Value = Vec<(bool, i64, i64)>> {
        prop::collection::vec((any::<bool>(), 0..60i64, 0..12i64), 0..40)
    }

    fn build(operations: &[(bool, i64, i64)]) -> (RangeSet, BTreeSet<i64>) {
        let (mut set, mut model) = (RangeSet::new(), BTreeSet::new());
        for &(add, start, len) in operations {
            if add {
                set.insert_range(start..start + len);
                model.extend(start..start + len);
            } else {
                set.remove_range(start..start + len);
                model.retain(|id| !(start..start + len).contains(id));
            }
        }
        (set, model)
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_ids(ops in operations()) {
            let (set, model) = build(&ops);
            prop_assert_eq!(ids(&set), model.clone());
            prop_assert_eq!(set.ids_len() as usize, model.len());
            for id in 0..80 {
                prop_assert_eq!(set.contains(id), model.contains(&id));
            }
        }

        #[test]
        fn ranges_never_touch(ops in operations()) {
            let (set, _) = build(&ops);
            let ranges: Vec<_> = set.iter().collect();
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].end < pair[1].start);
            }
        }

        #[test]
        fn text_round_trips(ops in operations()) {
            let (set, _) = build(&ops);
            prop_assert_eq!(set.to_string().parse::<RangeSet>().unwrap(), set);
        }

        #[test]
        fn gaps_and_parts_are_complements(ops in operations(), start in 0..70i64, len in 0..30i64) {
            let (set, model) = build(&ops);
            let bounds = start..start + len;
            let inside: BTreeSet<i64> = set.within(bounds.clone()).flatten().collect();
            let outside = ids(&set.gaps(bounds.clone()));
            let expected: BTreeSet<i64> = bounds.clone().filter(|id| model.contains(id)).collect();
            prop_assert_eq!(&inside, &expected);
            prop_assert_eq!(outside, bounds.filter(|id| !expected.contains(id)).collect::<BTreeSet<_>>());
        }

        #[test]
        fn set_operations(a in operations(), b in operations()) {
            let ((a, am), (b, bm)) = (build(&a), build(&b));
            let mut union = a.clone();
            union.union(&b);
            prop_assert_eq!(ids(&union), am.union(&bm).copied().collect::<BTreeSet<_>>());
            let mut rest = a.clone();
            rest.subtract(&b);
            prop_assert_eq!(ids(&rest), am.difference(&bm).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(
                ids(&a.intersection(&b)),
                am.intersection(&bm).copied().collect::<BTreeSet<_>>()
            );
        }
    }
}
