//! Single rules of the flow, each with the schedule that needs it.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::*;
use crate::ledger::{Class, Mark};
use crate::message::Parts;
use crate::range::RangeSet;
use crate::route::Destination;
use crate::target::{Broken, Event, Reaction, Refusal, Submission};

/// A flow, its clock and the number of its last mark.
struct Scene {
    flow: Flow,
    now: Instant,
    marks: u64,
}

impl Scene {
    fn new(policy: Policy) -> Self {
        Self::over(policy, RangeSet::new())
    }

    fn over(policy: Policy, ledger: RangeSet) -> Self {
        let progress = Progress::new(ledger, RangeSet::new()).with_gaps_max(1);
        let begin = Begin {
            progress,
            takeover_id: None,
            parked: vec![],
            past: Past::default(),
            routes_changed: false,
            unrouted: vec![],
        };
        Self::begun(policy, begin)
    }

    fn begun(policy: Policy, begin: Begin) -> Self {
        let topic = "{{ topic }}".parse().unwrap();
        let route = RouteConfig {
            topic: "*".parse().unwrap(),
            kind: None,
            destination: Destination::Kafka { topic, headers: vec![] },
        };
        let mut flow = Flow::new(policy, vec![route].into(), begin, 1);
        flow.on_connected();
        Self { flow, now: Instant::now() + Duration::from_secs(1_000), marks: 0 }
    }

    /// Rows of one key each, read with what mark `as_of` committed.
    fn read(&mut self, rows: &[(i64, &str, bool)], as_of: u64) {
        let rows = rows
            .iter()
            .map(|&(id, key, held)| FreshRow { message: message(id, key), route: Some(0), held })
            .collect();
        let (opened, dead) = (vec![], vec![]);
        self.flow.on_read(FreshRead { as_of, rows, opened, dead, caught_up: true }, self.now);
    }

    fn retry(&mut self, rows: &[(i64, &str, bool)], route: Option<usize>) {
        let row = |&(id, key, head): &(i64, &str, bool)| RetryRow {
            id,
            message: Some(message(id, key)),
            route: if head { Some(0) } else { route },
            key: Some(key.into()),
            holds: true,
            attempts: 0,
            replay: None,
            parked: None,
            sent: false,
            poison: false,
            late: false,
            head,
        };
        self.flow.on_retry_rows(rows.iter().map(row).collect(), self.marks);
    }

    fn send(&mut self) -> Vec<Submission> {
        std::iter::from_fn(|| self.flow.next_send(self.now)).collect()
    }

    fn sent_ids(&mut self) -> Vec<i64> {
        self.send().iter().map(|submission| submission.message.id()).collect()
    }

    fn refuse(&mut self, submission: &Submission, reaction: Reaction) {
        let refusal = Refusal { reaction, reason: "because".into() };
        self.flow.on_event(Event::Refused(submission.ticket, refusal));
    }

    fn confirm(&mut self, submission: &Submission) {
        self.flow.on_event(Event::Confirmed(submission.ticket));
    }

    fn mark(&mut self) -> Option<Mark> {
        let mark = self.flow.take_mark(self.now)?;
        self.marks += 1;
        self.flow.on_marked(&mark, self.marks);
        Some(mark)
    }

    fn lose_connection(&mut self) {
        self.flow.on_broken(Broken { reason: "gone".into(), suspect: None });
        self.flow.on_connected();
    }
}

fn message(id: i64, key: &str) -> Message {
    Message::new(Parts {
        id,
        message_id: Uuid::nil(),
        created_at_us: 0,
        topic: "t",
        key: Some(key),
        kind: None,
        headers: None,
        payload: None,
        oversize_bytes: None,
    })
}

/// A read that began before the commit of a refusal says that the key is free: it is not.
#[test]
fn a_key_is_held_until_a_read_begun_after_the_commit() {
    let mut scene = Scene::new(Policy::default());
    scene.read(&[(1, "k", false)], 0);
    let first = scene.send().remove(0);
    scene.refuse(&first, Reaction::Retry);
    let mark = scene.mark().expect("the refused row is written");
    assert_eq!(mark.set_aside[0].class, Class::Refused);

    // Read before mark 1 was committed, taken in after it.
    scene.read(&[(2, "k", false), (3, "other", false)], 0);
    assert_eq!(scene.sent_ids(), [3]);

    // Read after it, when both rows have left `retry` again.
    scene.mark();
    scene.read(&[(4, "k", false)], scene.marks);
    assert_eq!(scene.sent_ids(), [4]);
}

/// A message without an outcome was set aside, a later one of its key was in flight behind it: when
/// the connection is lost, neither has arrived, and the later one must not go first.
#[test]
fn what_was_in_flight_behind_a_straggler_waits_for_it_after_a_reconnect() {
    let policy = Policy { straggler_after: Duration::from_secs(5), ..Policy::default() };
    let mut scene = Scene::new(policy);
    scene.read(&[(1, "k", false)], 0);
    assert_eq!(scene.sent_ids(), [1]);
    scene.now += Duration::from_secs(4);
    scene.read(&[(2, "k", false)], 0);
    assert_eq!(scene.sent_ids(), [2]);
    scene.now += Duration::from_secs(2);
    // Every other one is confirmed, so that the ledger would have more gaps than it may.
    let rows: Vec<_> = (3..12).map(|id| (id, "other", false)).collect();
    scene.read(&rows, 0);
    for submission in scene.send().iter().filter(|s| s.message.id() % 2 == 0) {
        scene.confirm(submission);
    }
    let mark = scene.mark().expect("the straggler is written");
    assert_eq!((mark.set_aside[0].id, mark.set_aside[0].class), (1, Class::Straggler));

    scene.lose_connection();
    assert_eq!(scene.sent_ids(), [3, 5, 7, 9, 11]);
    scene.mark();
    // Read from `retry`, in order.
    scene.retry(&[(1, "k", true), (2, "k", false)], Some(0));
    let head = scene.send();
    assert_eq!(head[0].message.id(), 1);
    scene.confirm(&head[0]);
    assert_eq!(scene.sent_ids(), [2]);
}

/// A row of the start's gaps is held by an earlier one of its key in `retry`; a later one of that key
/// was read as the follower of that one, before this one was there.
#[test]
fn a_follower_waits_for_a_row_of_the_starts_gaps() {
    let ledger = "{[1,2),[3,4)}".parse().unwrap();
    let mut scene = Scene::over(Policy::default(), ledger);
    scene.retry(&[(1, "k", true), (3, "k", false)], Some(0));
    scene.read(&[(2, "k", true)], 0);
    let head = scene.send();
    assert_eq!(head.len(), 1);
    scene.confirm(&head[0]);
    assert_eq!(scene.sent_ids(), [0; 0], "3 would pass 2");
}

/// Rows that stand in `retry` were wanted once: what no route takes any more is dead, and never goes
/// where another route leads.
#[test]
fn a_row_of_retry_without_a_route_is_dead() {
    let mut scene = Scene::over(Policy::default(), "{[1,9)}".parse().unwrap());
    scene.read(&[], 0);
    scene.retry(&[(1, "k", true), (2, "k", false)], None);
    let head = scene.send();
    assert_eq!(head.len(), 1, "the follower has no route");
    scene.confirm(&head[0]);
    assert_eq!(scene.sent_ids(), [0; 0]);
    scene.mark();

    // It is the head now.
    let row = RetryRow {
        id: 2,
        message: Some(message(2, "k")),
        route: None,
        key: Some("k".into()),
        holds: true,
        attempts: 3,
        replay: None,
        parked: None,
        sent: false,
        poison: false,
        late: false,
        head: true,
    };
    scene.flow.on_retry_rows(vec![row], scene.marks);
    let mark = scene.mark().expect("the burial is written");
    assert_eq!(mark.resolved, [0; 0]);
    assert_eq!(mark.buried[0].reason, "no route takes topic \"t\" any more");
    assert_eq!(mark.buried[0].attempts, 3);
}

/// A row that comes late was wanted by nobody yet: where rows without a route are settled, it is, and
/// is recorded as unsent like the others.
#[test]
fn a_late_row_without_a_route_is_settled_like_any_other() {
    let mut scene = Scene::over(Policy::default(), "{[1,9)}".parse().unwrap());
    scene.read(&[], 0);
    let row = RetryRow {
        id: 2,
        message: Some(message(2, "k")),
        route: None,
        key: Some("k".into()),
        holds: false,
        attempts: 0,
        replay: None,
        parked: None,
        sent: false,
        poison: false,
        late: true,
        head: true,
    };
    scene.flow.on_retry_rows(vec![row], scene.marks);
    let mark = scene.mark().expect("its row in retry has to go");
    assert_eq!((mark.resolved.as_slice(), mark.buried.len()), (&[2][..], 0));
    assert_eq!((mark.unrouted.len(), mark.unrouted[0].first_id), (1, 2));
}

/// What librdkafka still holds counts against the window's bytes, though the row is set aside.
#[test]
fn i8_stragglers_count_until_they_are_answered() {
    let bytes = message(1, "k").cost_bytes();
    let policy = Policy { window_bytes_max: bytes * 6, ..Policy::default() };
    let mut scene = Scene::new(policy);
    scene.read(&[(1, "a", false)], 0);
    let first = scene.send().remove(0);
    scene.now += Duration::from_secs(10);
    scene.read(&[2, 3, 4, 5, 6].map(|id| (id, "b", false)), 0);
    let sent = scene.send();
    assert_eq!(sent.len(), 5);
    sent.iter().step_by(2).for_each(|submission| scene.confirm(submission));
    scene.mark();
    assert_eq!(scene.flow.counters().stragglers, 1);
    sent.iter().skip(1).step_by(2).for_each(|submission| scene.confirm(submission));
    scene.mark();

    scene.read(&[7, 8, 9, 10, 11, 12, 13].map(|id| (id, "c", false)), 0);
    assert_eq!(scene.sent_ids().len(), 5, "one place is the straggler's");
    scene.confirm(&first);
    assert_eq!(scene.sent_ids().len(), 1);
}

/// A row whose first submission has no outcome yet is left out of a read, and those behind it with it.
#[test]
fn nobody_passes_a_row_that_a_read_leaves_out() {
    let mut scene = Scene::new(Policy::default());
    scene.read(&[(2, "k", false)], 0);
    assert_eq!(scene.sent_ids(), [2]);
    scene.now += Duration::from_secs(10);
    scene.read(&[3, 4, 5, 6, 7].map(|id| (id, "other", false)), 0);
    for submission in scene.send().iter().filter(|s| s.message.id() % 2 == 1) {
        scene.confirm(submission);
    }
    let mark = scene.mark().expect("the straggler is written");
    assert_eq!((mark.set_aside[0].id, mark.set_aside[0].class), (2, Class::Straggler));

    scene.retry(&[(1, "k", true), (2, "k", false), (8, "k", false)], Some(0));
    let head = scene.send();
    assert_eq!(head[0].message.id(), 1);
    scene.confirm(&head[0]);
    assert_eq!(scene.sent_ids(), [0; 0], "8 would pass 2");
}

/// A dead message that holds its key stands behind an earlier one that is sent again: it is not sent
/// with it, and neither is what waits for a person's decision.
#[test]
fn a_dead_message_that_holds_its_key_is_no_follower() {
    let mut scene = Scene::over(Policy::default(), "{[1,9)}".parse().unwrap());
    scene.read(&[], 0);
    let row = |id: i64| RetryRow {
        id,
        message: Some(message(id, "k")),
        route: Some(0),
        key: Some("k".into()),
        holds: true,
        attempts: 0,
        replay: None,
        parked: None,
        sent: false,
        poison: id == 2,
        late: false,
        head: id == 1,
    };
    scene.flow.on_retry_rows(vec![row(1), row(2), row(3)], 0);
    let head = scene.send();
    assert_eq!(head.len(), 1);
    scene.confirm(&head[0]);
    assert_eq!(scene.sent_ids(), [0; 0]);
}

/// Each of several short lives may have sent two windows, and marked none of it: what the next one sends
/// of so many says so, and nothing behind them.
#[test]
fn what_several_short_lives_may_have_sent_says_so() {
    let policy = Policy { window_messages_max: 10, ..Policy::default() };
    let begin = Begin {
        progress: Progress::new(RangeSet::new(), RangeSet::new()),
        takeover_id: Some(100),
        parked: vec![],
        past: Past { crashes: 2, suspect: None },
        routes_changed: false,
        unrouted: vec![],
    };
    let mut scene = Scene::begun(policy, begin);
    let rows: Vec<_> = (1..=100).map(|id| (id, "k", false)).collect();
    scene.read(&rows, 0);
    let mut said = Vec::new();
    for _ in 0..10 {
        for submission in scene.send() {
            said.push(submission.resent.is_some());
            scene.confirm(&submission);
        }
        scene.mark();
    }
    assert_eq!(said, (1..=100).map(|n| n <= 60).collect::<Vec<_>>());
}
