//! Who is to blame when several messages were refused together: they are sent again in ever smaller
//! groups, with nothing else in flight, until one is refused alone.

/// The size of the groups.
#[derive(Debug)]
pub(super) struct Trial {
    /// Messages that may be together.
    limit: usize,
    /// Messages of the group that is in flight, answered ones included.
    group: usize,
    /// Whether the group was refused.
    refused: bool,
}

impl Default for Trial {
    fn default() -> Self {
        Self { limit: usize::MAX, group: 0, refused: false }
    }
}

impl Trial {
    /// Several were refused together, `size` at most; nobody is to blame yet.
    pub(super) fn refused(&mut self, size: usize) {
        if self.group == 0 {
            // The first time: who was in it is not known better than this.
            self.limit = self.limit.min(size.div_ceil(2)).max(1);
        }
        self.refused = true;
    }

    /// Nothing is in flight: the next group may go. It is half of one that was refused, and twice as
    /// large as one that was not.
    pub(super) fn begin(&mut self) {
        if self.group > 0 {
            let halved = (self.group / 2).max(1);
            self.limit = if self.refused { halved } else { self.limit.saturating_mul(2) };
        }
        (self.group, self.refused) = (0, false);
    }

    /// Whether one more may join the group.
    pub(super) fn has_room(&self) -> bool {
        self.group < self.limit
    }

    /// One more was sent.
    pub(super) fn joined(&mut self, suspect: bool) {
        self.group += usize::from(suspect);
    }

    /// Whether the group is a single message: what befalls it is its own doing.
    pub(super) fn is_single(&self) -> bool {
        self.group == 1
    }

    /// Nobody is suspected any more.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds the culprit among `n`; returns how many groups were sent.
    fn groups(n: usize, culprit: usize) -> usize {
        let mut trial = Trial::default();
        trial.refused(n);
        let mut suspects: Vec<usize> = (0..n).collect();
        for groups in 1.. {
            trial.begin();
            let mut group = 0;
            while group < suspects.len() && trial.has_room() {
                trial.joined(true);
                group += 1;
            }
            if !suspects[..group].contains(&culprit) {
                suspects.drain(..group);
            } else if trial.is_single() {
                return groups;
            } else {
                trial.refused(group);
            }
        }
        unreachable!()
    }

    #[test]
    fn a_culprit_is_found_in_few_groups() {
        for n in [2_usize, 3, 10, 1_000, 10_000] {
            for culprit in [0, 1, n / 3, n / 2, n - 1] {
                let most = 4 * (usize::BITS - n.leading_zeros()) as usize;
                assert!(groups(n, culprit) <= most, "{n} {culprit}: {}", groups(n, culprit));
            }
        }
    }
}
