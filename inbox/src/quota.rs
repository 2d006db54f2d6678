//! How many records of one kind a log gets: a replay of a day must not push everything else out of it.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// So many records a second, and the number of those that were left out with the next one.
#[derive(Debug)]
pub(crate) struct Quota {
    per_second_max: u32,
    since: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    second: u64,
    admitted: u32,
    left_out: u64,
}

impl Quota {
    pub(crate) fn new(per_second_max: u32) -> Self {
        Self { per_second_max, since: Instant::now(), state: Mutex::default() }
    }

    /// Whether there is room for one more record, and how many were left out since the last one.
    pub(crate) fn admit(&self) -> Option<u64> {
        let second = self.since.elapsed().as_secs();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.admit(second, self.per_second_max)
    }
}

impl State {
    fn admit(&mut self, second: u64, per_second_max: u32) -> Option<u64> {
        // Another thread may have looked at the clock before this one, and come later.
        if second > self.second {
            (self.second, self.admitted) = (second, 0);
        }
        if self.admitted >= per_second_max {
            self.left_out += 1;
            return None;
        }
        self.admitted += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_said_with_the_next_one() {
        let mut state = State::default();
        let mut admit = |second| state.admit(second, 2);
        assert_eq!([admit(0), admit(0), admit(0), admit(0)], [Some(0), Some(0), None, None]);
        // A second later two more; a look at an older clock opens nothing anew.
        assert_eq!([admit(1), admit(1), admit(0), admit(1)], [Some(2), Some(0), None, None]);
        assert_eq!(admit(9), Some(2));
    }
}
