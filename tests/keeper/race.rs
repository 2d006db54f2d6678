//! Retention against marks and commits that land in the middle of its transaction.
//!
//! A lock that the test holds stops the round at a known statement: an uncommitted row of `kept` the
//! statement that deletes, a locked dead range the one that trims.

use outbox_relay::keeper::retention::Round;
use tokio::task::JoinSet;

use super::outbox::{Outbox, keep_nothing, pid, retain, settle};
use crate::support::session::Session;

/// A round of retention on a session of its own, as a task that the test can watch.
struct Running {
    task: JoinSet<Round>,
    pid: i32,
}

impl Running {
    async fn start(outbox: &Outbox) -> Self {
        let mut session: Session = outbox.another().await;
        let pid = pid(&session).await;
        let mut task = JoinSet::new();
        task.spawn(async move { retain(&mut session, &keep_nothing()).await });
        outbox.blocked(pid).await;
        Self { task, pid }
    }

    async fn end(mut self) -> Round {
        self.task.join_next().await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_mark_during_the_round_changes_nothing_below_the_floor() {
    // GIVEN a round that has deleted [1, 4) and waits for a mark to end that writes the dead range
    let outbox = Outbox::create().await;
    outbox.insert(2).await;
    outbox.roll_back(1).await;
    outbox.insert(6).await;
    outbox.settle("a", "{[1,5)}").await;
    outbox.dead_range("a", "{[3,4)}").await;
    let lease = outbox.another().await;
    lease.run("BEGIN; UPDATE outbox.hole SET ranges = ranges + '{[7,8)}'::int8multirange").await;
    let round = Running::start(&outbox).await;
    // WHEN the mark settles further ids, sets one aside and opens a hole
    settle(&lease, "a", "{[5,10)}").await;
    lease
        .run("INSERT INTO outbox.retry (target, id, holds, attempts, class) VALUES ('a', 6, true, 1, 'refused');
              INSERT INTO outbox.hole (target, ranges) VALUES ('a', '{[8,9)}');
              COMMIT")
        .await;
    let round = round.end().await;
    // THEN the round moves the floor as far as it had looked, and keeps what the mark added
    assert_eq!((round.floor, round.deleted, round.late), (5, 3, 0));
    assert_eq!(outbox.messages().await, [5, 6, 7, 8, 9]);
    let text = "SELECT string_agg(ranges::text, ' ' ORDER BY hole_id) FROM outbox.hole";
    let ranges: String = outbox.session.query_one(text, &[]).await.unwrap().get(0);
    assert_eq!(ranges, "{[7,8)} {[8,9)}");
    // AND the next goes on from there, up to the hole
    let mut outbox = outbox;
    let round = outbox.retain().await;
    assert_eq!((round.floor, round.deleted, round.kept, round.late), (8, 1, 2, 1));
    assert_eq!(outbox.messages().await, [6, 7, 8, 9]);
}

#[tokio::test]
async fn a_row_that_commits_before_the_statement_that_deletes_is_late() {
    // GIVEN an id drawn early, given up for dead by both targets, and a round that stands right before
    // the end of the statement that deletes
    let outbox = Outbox::create().await;
    outbox.insert(1).await;
    let writer = outbox.another().await;
    writer.run("BEGIN; INSERT INTO outbox.message (topic, key) VALUES ('early', 'k')").await;
    outbox.insert(2).await;
    for target in ["a", "b"] {
        outbox.settle(target, "{[1,5)}").await;
        outbox.dead_range(target, "{[2,3)}").await;
    }
    // WHEN it commits while the round waits for the floor's lock
    let other = outbox.another().await;
    other.run("BEGIN; SELECT pg_advisory_xact_lock(k1, k2) FROM outbox.lock_key('@floor')").await;
    let round = Running::start(&outbox).await;
    writer.run("COMMIT").await;
    other.run("COMMIT").await;
    let round = round.end().await;
    // THEN
    assert_eq!((round.floor, round.deleted, round.kept, round.late), (5, 3, 1, 2));
    assert_eq!(outbox.messages().await, [2]);
    assert_eq!((outbox.late("a").await, outbox.late("b").await), (vec![2], vec![2]));
}

#[tokio::test]
async fn a_row_that_commits_after_the_statement_that_deletes_is_left_to_the_sweep() {
    // GIVEN the same, and a round that has deleted and waits to trim
    let mut outbox = Outbox::create().await;
    outbox.insert(1).await;
    let writer = outbox.another().await;
    writer.run("BEGIN; INSERT INTO outbox.message (topic, key) VALUES ('early', 'k')").await;
    outbox.insert(2).await;
    for target in ["a", "b"] {
        outbox.settle(target, "{[1,5)}").await;
        outbox.dead_range(target, "{[2,3)}").await;
    }
    let lease = outbox.another().await;
    lease.run("BEGIN; SELECT FROM outbox.hole FOR UPDATE").await;
    let round = Running::start(&outbox).await;
    // WHEN it commits now
    writer.run("COMMIT").await;
    lease.run("COMMIT").await;
    let round = round.end().await;
    // THEN it was neither seen nor deleted
    assert_eq!((round.floor, round.deleted, round.kept, round.late), (5, 3, 0, 0));
    assert_eq!(outbox.messages().await, [2]);
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.hole").await, 0);
    // AND the sweep finds it for every target, once
    assert_eq!(outbox.sweep().await, 2);
    assert_eq!((outbox.late("a").await, outbox.late("b").await), (vec![2], vec![2]));
    assert_eq!(outbox.ids("outbox.kept").await, [2]);
    assert_eq!(outbox.sweep().await, 0);
}

#[tokio::test]
async fn a_retry_row_that_goes_during_the_round_leaves_its_message_to_the_next() {
    // GIVEN a round that stands in the statement that deletes, with row 2 still to be retried
    let mut outbox = Outbox::create().await;
    outbox.insert(3).await;
    outbox.settle("a", "{[1,4)}").await;
    outbox.retry("a", 2).await;
    let blocker = outbox.another().await;
    blocker.run("BEGIN; INSERT INTO outbox.kept VALUES (2)").await;
    let round = Running::start(&outbox).await;
    assert_ne!(round.pid, pid(&blocker).await);
    // WHEN its delivery is marked
    outbox.run("DELETE FROM outbox.retry").await;
    blocker.run("ROLLBACK").await;
    let round = round.end().await;
    // THEN it is kept for no one, and goes with the next look at kept
    assert_eq!((round.deleted, round.kept), (2, 1));
    assert_eq!(outbox.messages().await, [2]);
    assert_eq!(outbox.release().await, 1);
    assert!(outbox.messages().await.is_empty());
}
