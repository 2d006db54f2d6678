//! What no route of the target takes: which topics and types the database knows already, so that a
//! mark writes something only where one is new.
//!
//! A row of `outbox.unrouted` says: of this topic and type, the ids in its set were settled unsent.
//! While it stands open the set has no end, so further rows of the topic change nothing. That is exact
//! for every id from the end of the ledger at the start of this life on: no earlier life has settled
//! any of those. An id below it is added, or taken out, one by one.

use std::collections::HashMap;

use super::Flow;
use crate::ledger::{Mark, Noted};
use crate::message::Message;
use crate::range::RangeSet;

/// Topics and types that are recorded for one target; the row of all others comes on top. A target
/// that takes one topic of ten has nine. Topics that contain an identifier can be millions.
pub const TOPICS_MAX: usize = 1_000;

/// A row of `outbox.unrouted`, as a life finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownUnrouted {
    /// `None`: all topics that have no row of their own.
    pub topic: Option<String>,
    /// The type.
    pub kind: Option<String>,
    /// It belongs to the routes of this life and has no end.
    pub open: bool,
}

/// Whether a topic and type stand open, by type.
type Types = Vec<(Option<Box<str>>, bool)>;

/// What the database knows, and what the next mark must add.
#[derive(Debug, Default)]
pub(super) struct UnroutedTopics {
    known: HashMap<Box<str>, Types>,
    /// The row of all other topics: whether it stands open.
    others: Option<bool>,
    rows: usize,
    /// The end of the ledger at the start of this life.
    from: i64,
    /// For the next mark.
    noted: Vec<Noted>,
    sent: Vec<i64>,
}

impl UnroutedTopics {
    pub(super) fn new(known: Vec<KnownUnrouted>, from: i64) -> Self {
        let mut topics = Self { from, ..Self::default() };
        for row in known {
            match &row.topic {
                None => topics.others = Some(row.open || topics.others == Some(true)),
                Some(topic) => {
                    topics.rows += 1;
                    topics.open(topic, row.kind.as_deref(), row.open);
                }
            }
        }
        topics
    }

    /// A row is settled although no route takes it.
    fn settled(&mut self, message: &Message) {
        let (id, topic, kind) = (message.id(), message.topic(), message.kind());
        let open = self.find(topic, kind) == Some(true);
        if open && id >= self.from {
            return;
        }
        let named = open || self.rows < TOPICS_MAX;
        let known = if named { open } else { self.others == Some(true) };
        if known && id >= self.from {
            return;
        }
        if !known && named {
            self.rows += 1;
            self.open(topic, kind, true);
        } else if !known {
            self.others = Some(true);
        }
        let name = |text: &str| text.to_owned();
        self.note(Noted {
            topic: named.then(|| name(topic)),
            kind: kind.filter(|_| named).map(name),
            first_id: id,
            open_from: (!known).then_some(self.from),
            late: if id < self.from { RangeSet::from(id..id + 1) } else { RangeSet::new() },
        });
    }

    /// Rows of one topic in one mark are one row of the statement.
    fn note(&mut self, noted: Noted) {
        let same = |other: &&mut Noted| other.topic == noted.topic && other.kind == noted.kind;
        match self.noted.iter_mut().find(same) {
            None => self.noted.push(noted),
            Some(other) => {
                other.first_id = other.first_id.min(noted.first_id);
                other.open_from = other.open_from.or(noted.open_from);
                other.late.union(&noted.late);
            }
        }
    }

    /// A message was confirmed. What an earlier life may have recorded as unsent is taken out: a hole
    /// that came late, a gap, a replay.
    fn sent(&mut self, id: i64, message: Option<&Message>) {
        let covered = id < self.from && (self.rows > 0 || self.others.is_some());
        // The statement compares the topics; this spares it the ids that cannot be there.
        if covered && message.is_none_or(|message| self.may_cover(message)) {
            self.sent.push(id);
        }
    }

    fn may_cover(&self, message: &Message) -> bool {
        self.others.is_some() || self.find(message.topic(), message.kind()).is_some()
    }

    fn find(&self, topic: &str, kind: Option<&str>) -> Option<bool> {
        let types = self.known.get(topic)?;
        types.iter().find(|(known, _)| known.as_deref() == kind).map(|&(_, open)| open)
    }

    fn open(&mut self, topic: &str, kind: Option<&str>, open: bool) {
        let types = self.known.entry(topic.into()).or_default();
        match types.iter_mut().find(|(known, _)| known.as_deref() == kind) {
            Some((_, known)) => *known |= open,
            None => types.push((kind.map(Into::into), open)),
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.noted.is_empty() || !self.sent.is_empty()
    }

    /// Adds what the next mark must write. It may come before the mark that settles the ids: until then
    /// they are pending, whatever is recorded of them.
    pub(super) fn complete(&mut self, mark: &mut Mark) {
        mark.unrouted.append(&mut self.noted);
        mark.sent_after_all.append(&mut self.sent);
    }
}

impl Flow {
    /// No route takes the row, and the target lets it pass.
    pub(super) fn settle_unrouted(&mut self, message: &Message) {
        self.counters.filtered += 1;
        self.unrouted.settled(message);
        self.progress.settle(message.id());
        self.free_message(message);
    }

    /// The same of a row that stands in `retry` since it came late: its id is settled already.
    pub(super) fn settle_late(&mut self, message: &Message, key: Option<&str>) {
        self.counters.filtered += 1;
        self.unrouted.settled(message);
        self.resolve(message.id(), key);
        self.free_message(message);
    }

    /// A message was confirmed; `None` where only its id is known.
    pub(super) fn sent_after_all(&mut self, id: i64, message: Option<&Message>) {
        self.unrouted.sent(id, message);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::message::Parts;

    fn message(id: i64, topic: &str, kind: Option<&str>) -> Message {
        Message::new(Parts {
            id,
            message_id: Uuid::nil(),
            created_at_us: 0,
            topic,
            key: None,
            kind,
            headers: None,
            payload: None,
            oversize_bytes: None,
        })
    }

    fn taken(topics: &mut UnroutedTopics) -> Vec<(Option<String>, i64, Option<i64>, String)> {
        let mut mark = Mark::default();
        topics.complete(&mut mark);
        let row = |row: Noted| (row.topic, row.first_id, row.open_from, row.late.to_string());
        mark.unrouted.into_iter().map(row).collect()
    }

    #[test]
    fn a_topic_is_recorded_once_with_its_first_id() {
        // GIVEN a life that begins behind id 9
        let mut topics = UnroutedTopics::new(vec![], 10);
        // WHEN rows of a topic are settled unsent, out of order
        for id in [15, 12, 20] {
            topics.settled(&message(id, "a", None));
        }
        // THEN the topic is recorded once, for all that this life settles
        assert_eq!(taken(&mut topics), [(Some("a".into()), 15, Some(10), "{}".into())]);
        // AND never again, while another type of it is another row
        topics.settled(&message(30, "a", None));
        assert!(!topics.has_work());
        topics.settled(&message(31, "a", Some("")));
        assert_eq!(taken(&mut topics), [(Some("a".into()), 31, Some(10), "{}".into())]);
    }

    #[test]
    fn a_row_below_the_start_of_this_life_is_recorded_by_its_id() {
        // GIVEN a topic that stands open
        let known = KnownUnrouted { topic: Some("a".into()), kind: None, open: true };
        let mut topics = UnroutedTopics::new(vec![known], 10);
        // WHEN holes arrive late, of that topic and of another
        topics.settled(&message(3, "a", None));
        topics.settled(&message(5, "a", None));
        topics.settled(&message(4, "b", None));
        // THEN their ids are recorded, and the other topic is opened
        assert_eq!(
            taken(&mut topics),
            [
                (Some("a".into()), 3, None, "{[3,4),[5,6)}".into()),
                (Some("b".into()), 4, Some(10), "{[4,5)}".into())
            ]
        );
    }

    #[test]
    fn beyond_the_limit_there_is_one_row_of_others() {
        // GIVEN so many topics as are recorded by name
        let known = |n: usize| KnownUnrouted { topic: Some(n.to_string()), kind: None, open: true };
        let mut topics = UnroutedTopics::new((1..=TOPICS_MAX).map(known).collect(), 10);
        // WHEN rows of further topics come
        for n in 0..5 {
            topics.settled(&message(20 + n, &format!("further-{n}"), Some("t")));
        }
        // THEN one row stands for all of them, and is written once
        assert_eq!(taken(&mut topics), [(None, 20, Some(10), "{}".into())]);
    }

    #[test]
    fn only_what_may_be_recorded_as_unsent_is_taken_out() {
        // GIVEN a topic that earlier routes did not take
        let known = KnownUnrouted { topic: Some("a".into()), kind: None, open: false };
        let mut topics = UnroutedTopics::new(vec![known], 10);
        // WHEN messages are confirmed
        topics.sent(3, Some(&message(3, "a", None)));
        topics.sent(4, Some(&message(4, "b", None)));
        topics.sent(5, None);
        topics.sent(11, Some(&message(11, "a", None)));
        // THEN those below the start of this life that may be of that topic are taken out
        let mut mark = Mark::default();
        topics.complete(&mut mark);
        assert_eq!(mark.sent_after_all, [3, 5]);
    }
}
