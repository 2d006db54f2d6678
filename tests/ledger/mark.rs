//! A mark on a real ledger, without a pipeline around it.

use outbox_relay::admin::AdminError;
use outbox_relay::admin::dead::{self, Filter};
use outbox_relay::decision::Decision;
use outbox_relay::ledger::Mark;

use super::pen::Pen;
use crate::keeper::outbox::Outbox;

/// A dead message whose row is gone, and another message that has its id now.
async fn an_id_of_two_messages() -> Outbox {
    let outbox = Outbox::create().await;
    outbox
        .run(
            "INSERT INTO outbox.message (topic, payload) VALUES ('before', 'first');
             INSERT INTO outbox.dead (target, id, message_id, topic, created_at, attempts, class, reason, payload)
                 SELECT 'lake', id, message_id, topic, created_at, 1, 'refused', 'too large', payload
                 FROM outbox.message;
             SET outbox_relay.keeper = 'on'; DELETE FROM outbox.message; RESET outbox_relay.keeper;
             ALTER TABLE outbox.message ALTER id RESTART;
             INSERT INTO outbox.message (topic, payload) VALUES ('after', 'second')",
        )
        .await;
    outbox
}

const DECISION: Decision<'_> = Decision { by: None, reason: None };

const DEAD: &str = "
SELECT count(*) FROM outbox.dead JOIN outbox.message USING (id, message_id, topic, payload)
WHERE target = 'lake' AND dead.reason = 'refused as well' AND dead.attempts = 3";

const REPLACED: &str = "
SELECT count(*) FROM outbox.displaced LEFT JOIN outbox.message USING (id, message_id)
WHERE target = 'lake' AND id = 1 AND message.id IS NULL AND displaced.payload = 'first'
  AND copy ->> 'topic' = 'before' AND copy ->> 'reason' = 'too large'";

#[tokio::test]
async fn i1_a_message_that_dies_under_a_used_id_is_the_one_that_stands_in_dead() {
    // GIVEN
    let outbox = an_id_of_two_messages().await;
    let mut pen = Pen::take(&outbox, "lake").await;
    // WHEN the message that has the id now dies as well
    pen.bury(1, "refused as well").await;
    // THEN its own content is there, and that of the other one can still be found
    assert_eq!((outbox.count(DEAD).await, outbox.count(REPLACED).await), (1, 1));
    // AND dying again is no replacement
    pen.bury(1, "refused as well").await;
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.displaced").await, 1);
}

#[tokio::test]
async fn i1_delivering_a_message_deletes_no_dead_copy_of_another() {
    let outbox = an_id_of_two_messages().await;
    outbox.retry("lake", 1).await;
    let mut pen = Pen::take(&outbox, "lake").await;
    let settled = std::iter::once(1..2).collect();
    pen.write(Mark { settled, resolved: vec![1], ..Mark::default() }).await;
    assert_eq!(outbox.ids("outbox.retry").await, [0i64; 0]);
    assert_eq!(outbox.ids("outbox.dead WHERE topic = 'before'").await, [1]);
    // AND it does not make the other look dead
    assert_eq!(outbox.ids("outbox.message_state WHERE state = 'sent'").await, [1]);
}

#[tokio::test]
async fn a_dead_copy_is_not_requeued_under_the_id_of_another_message() {
    let mut outbox = an_id_of_two_messages().await;
    outbox.settle("lake", "{[1,2)}").await;
    let all = Filter::default();
    let changed =
        dead::requeue(&mut outbox.session, &outbox.schema, "lake", &all, &DECISION, false).await;
    assert_eq!(changed.unwrap().rows, 0);
    let one = Filter { ids: vec![1], ..Filter::default() };
    let refused =
        dead::requeue(&mut outbox.session, &outbox.schema, "lake", &one, &DECISION, false).await;
    assert!(matches!(refused, Err(AdminError::IdTaken { id: 1, .. })), "{refused:?}");
    assert_eq!(outbox.ids("outbox.retry").await, [0i64; 0]);
}
