//! The connection to the broker as the loop sees it: when to connect, and how long to pause.

use std::time::{Duration, Instant};

use crate::config::TargetConfig;
use crate::flow::{Backoff, Jitter};

/// How soon a fence that a predecessor holds is tried again. It is free the moment the broker ends
/// its connection, and every try costs the broker a connection and a line in its log.
const FENCE_PAUSE: Duration = Duration::from_millis(100);

/// The state of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not connected until this moment.
    Down(Instant),
    /// Asked to connect.
    Connecting,
    Up,
    /// Asked to disconnect: nothing may be asked before it has.
    Leaving,
}

/// The link of one life of a pipeline.
#[derive(Debug)]
pub(super) struct Link {
    state: State,
    backoff: Backoff,
    jitter: Jitter,
    /// Failures in a row, since something was last confirmed.
    failures: u32,
    /// The last try met a predecessor's fence.
    fenced: bool,
}

impl Link {
    pub(super) fn new(target: &TargetConfig, now: Instant, seed: u64) -> Self {
        let backoff = Backoff { min: target.outage_backoff_min, max: target.outage_backoff_max };
        Self {
            state: State::Down(now),
            backoff,
            jitter: Jitter::new(seed),
            failures: 0,
            fenced: false,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether to connect now; if so it counts as asked.
    pub(super) fn may_connect(&mut self, now: Instant) -> bool {
        let may = matches!(self.state, State::Down(at) if at <= now);
        if may {
            self.state = State::Connecting;
        }
        may
    }

    /// Whether to disconnect; if so it counts as asked.
    pub(super) fn may_leave(&mut self) -> bool {
        let may = matches!(self.state, State::Up | State::Connecting);
        if may {
            self.state = State::Leaving;
        }
        may
    }

    /// The driver has connected; false if it was asked to leave meanwhile, which it will answer too.
    pub(super) fn connected(&mut self) -> bool {
        let expected = self.state == State::Connecting;
        if expected {
            self.fenced = false;
            self.state = State::Up;
        }
        expected
    }

    /// It is down; returns the pause before the next try.
    pub(super) fn lost(&mut self, now: Instant) -> Duration {
        self.fenced = false;
        self.failures = self.failures.saturating_add(1);
        let pause = self.backoff.delay(self.failures, &mut self.jitter);
        self.state = State::Down(now + pause);
        pause
    }

    /// A predecessor holds the fence: the pause does not grow. Returns whether that is news.
    pub(super) fn fenced(&mut self, now: Instant) -> bool {
        self.state = State::Down(now + FENCE_PAUSE);
        !std::mem::replace(&mut self.fenced, true)
    }

    /// The broker has answered another pipeline: what is left of a pause for its sake is over.
    /// Returns whether there was one. A fence is held whoever is answered.
    pub(super) fn hurry(&mut self, now: Instant) -> bool {
        let pauses = self.pauses() && matches!(self.state, State::Down(at) if at > now);
        if pauses {
            self.state = State::Down(now);
        }
        pauses
    }

    /// Whether it waits for the broker to be there.
    pub(super) fn pauses(&self) -> bool {
        matches!(self.state, State::Down(_)) && !self.fenced && self.failures > 0
    }

    /// It is down because of a message: no sign of an outage, and those who are not to blame wait.
    pub(super) fn spoiled(&mut self, now: Instant) -> Duration {
        self.failures = 0;
        self.lost(now)
    }

    /// Something was confirmed: the broker works.
    pub(super) fn works(&mut self) {
        self.failures = 0;
    }

    /// When `may_connect` could answer differently by time alone.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match self.state {
            State::Down(at) => Some(at),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(now: Instant) -> Link {
        Link {
            state: State::Down(now),
            backoff: Backoff { min: Duration::from_secs(60), max: Duration::from_secs(60) },
            jitter: Jitter::new(1),
            failures: 0,
            fenced: false,
        }
    }

    #[test]
    fn an_answer_to_another_pipeline_ends_the_pause_and_not_the_wait_for_a_fence() {
        let now = Instant::now();
        let mut link = link(now);
        assert!(link.may_connect(now));
        link.lost(now);
        assert!(!link.may_connect(now) && link.pauses());
        assert!(link.hurry(now) && link.may_connect(now));
        link.fenced(now);
        assert!(!link.hurry(now) && !link.may_connect(now));
    }
}
