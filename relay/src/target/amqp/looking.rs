//! Messages that wait until the broker has said whether their exchange exists, and those of the same
//! keys behind them. Pure.

use std::collections::{HashSet, VecDeque};

use crate::target::Submission;

/// Exchanges that are asked about at a time. A message of one more is refused, and is tried later.
const EXCHANGES_MAX: usize = 64;

/// Messages that wait. One more makes the whole channel wait if its own exchange is being asked about,
/// or few are, for that takes a millisecond; in a flood of missing exchanges it is refused instead.
const MESSAGES_MAX: usize = 500;

/// What became of a message that should wait.
#[derive(Debug)]
pub(super) enum Entry {
    /// It waits. The exchange has still to be asked about.
    Ask,
    /// It waits for what was asked.
    Waits,
    /// Too many exchanges are asked about.
    Refused(Submission),
    /// Too many messages wait.
    Full(Submission),
}

/// What waits.
#[derive(Debug)]
pub(super) struct Looking {
    exchanges_max: usize,
    messages_max: usize,
    /// In the order in which they came.
    messages: VecDeque<Submission>,
    /// Exchanges that were asked about.
    asked: HashSet<Box<str>>,
    /// Ordering keys of the messages: a later message of one of them waits too.
    keys: HashSet<Box<[u8]>>,
}

impl Looking {
    /// `window` is how many messages may be in flight. Most of it stays free, so that a flood of
    /// missing exchanges does not stop the messages of the others.
    pub(super) fn new(window: usize) -> Self {
        Self {
            exchanges_max: (window / 4).clamp(1, EXCHANGES_MAX),
            messages_max: (window / 2).clamp(1, MESSAGES_MAX),
            messages: VecDeque::new(),
            asked: HashSet::new(),
            keys: HashSet::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether it is better to refuse what can be refused.
    pub(super) fn is_crowded(&self) -> bool {
        self.messages.len() >= self.messages_max / 2
    }

    /// Whether a message of this key must wait behind an earlier one.
    pub(super) fn holds(&self, submission: &Submission) -> bool {
        !self.messages.is_empty()
            && submission.message.key_bytes().is_some_and(|key| self.keys.contains(key))
    }

    /// The message waits for an answer about `exchange`.
    pub(super) fn wait_for(&mut self, exchange: &str, submission: Submission) -> Entry {
        let asked = self.asked.contains(exchange);
        // Probes have a budget of their own (`flow/park.rs`): a flood must not keep them out.
        let exchanges_max = self.exchanges_max << u32::from(submission.probe);
        if !asked && self.asked.len() >= exchanges_max {
            return Entry::Refused(submission);
        }
        if asked && self.messages.len() >= self.messages_max {
            // Its answer is on the way.
            return Entry::Full(submission);
        }
        match self.wait_behind(submission) {
            Entry::Waits if !asked => {
                self.asked.insert(exchange.into());
                Entry::Ask
            }
            entry => entry,
        }
    }

    /// The message waits for an earlier one of its key.
    pub(super) fn wait_behind(&mut self, submission: Submission) -> Entry {
        if self.messages.len() >= self.messages_max {
            let flood = self.asked.len() >= self.exchanges_max.div_ceil(2);
            return if flood { Entry::Refused(submission) } else { Entry::Full(submission) };
        }
        if let Some(key) = submission.message.key_bytes()
            && !self.keys.contains(key)
        {
            self.keys.insert(key.into());
        }
        self.messages.push_back(submission);
        Entry::Waits
    }

    /// The broker has said something about the exchange. Gives everything back that waits, to be
    /// looked at once more, in order.
    pub(super) fn answered(&mut self, exchange: &str) -> VecDeque<Submission> {
        self.asked.remove(exchange);
        self.keys.clear();
        std::mem::take(&mut self.messages)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::message::{Message, Parts};

    fn submission(id: i64, key: Option<&str>) -> Submission {
        let message = Message::new(Parts {
            id,
            message_id: Uuid::nil(),
            created_at_us: 0,
            topic: "t",
            key,
            kind: None,
            headers: None,
            payload: None,
            oversize_bytes: None,
        });
        Submission { ticket: 1, message, route: 0, resent: None, replay: None, probe: false }
    }

    #[test]
    fn i3_what_waits_holds_its_key_and_keeps_its_order() {
        let mut looking = Looking::new(10_000);
        assert!(!looking.holds(&submission(1, Some("k"))));
        assert!(matches!(looking.wait_for("a", submission(1, Some("k"))), Entry::Ask));
        assert!(matches!(looking.wait_for("a", submission(2, None)), Entry::Waits));
        assert!(looking.holds(&submission(3, Some("k"))));
        assert!(!looking.holds(&submission(3, Some("other"))));
        assert!(!looking.holds(&submission(3, None)));
        assert!(matches!(looking.wait_behind(submission(3, Some("k"))), Entry::Waits));
        let ids: Vec<i64> = looking.answered("a").iter().map(|s| s.message.id()).collect();
        assert_eq!(ids, [1, 2, 3]);
        assert!(looking.is_empty() && !looking.holds(&submission(4, Some("k"))));
    }

    #[test]
    fn i8_what_waits_is_bounded() {
        let mut looking = Looking::new(10_000);
        for n in 0..EXCHANGES_MAX {
            assert!(matches!(looking.wait_for(&n.to_string(), submission(1, None)), Entry::Ask));
        }
        assert!(matches!(looking.wait_for("more", submission(1, None)), Entry::Refused(_)));
        for _ in EXCHANGES_MAX..MESSAGES_MAX {
            assert!(matches!(looking.wait_for("0", submission(1, None)), Entry::Waits));
        }
        assert!(matches!(looking.wait_for("0", submission(1, None)), Entry::Full(_)));
        assert!(matches!(looking.wait_behind(submission(1, None)), Entry::Refused(_)));
    }

    #[test]
    fn many_messages_of_one_new_exchange_wait_for_its_answer() {
        let mut looking = Looking::new(10_000);
        assert!(matches!(looking.wait_for("new", submission(1, None)), Entry::Ask));
        for _ in 1..MESSAGES_MAX {
            assert!(matches!(looking.wait_for("new", submission(1, None)), Entry::Waits));
        }
        assert!(matches!(looking.wait_for("new", submission(1, None)), Entry::Full(_)));
    }

    #[test]
    fn missing_exchanges_leave_most_of_a_small_window_free() {
        let mut looking = Looking::new(20);
        for n in 0..5 {
            assert!(matches!(looking.wait_for(&n.to_string(), submission(1, None)), Entry::Ask));
        }
        assert!(matches!(looking.wait_for("more", submission(1, None)), Entry::Refused(_)));
        let probe = Submission { probe: true, ..submission(1, None) };
        assert!(
            matches!(looking.wait_for("more", probe), Entry::Ask),
            "a flood keeps no probe out"
        );
    }
}
