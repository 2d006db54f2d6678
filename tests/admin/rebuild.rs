//! `ledger rebuild`: everything pending that is not provably settled, and no message lost by it.

use outbox_relay::admin::AdminError;
use outbox_relay::admin::rebuild::{Rebuilt, rebuild};
use outbox_relay::admin::status::Count;
use outbox_relay::decision::Decision;

use crate::keeper::outbox::Outbox;
use crate::support::consumer::QueueKind;
use crate::support::relay::RelayProcess;
use crate::support::services::Services;
use crate::support::stage::Stage;

const NOBODY: Decision<'static> = Decision { by: None, reason: None };

async fn settled(outbox: &Outbox, target: &str) -> String {
    let text = "SELECT settled::text FROM outbox.ledger WHERE target = $1";
    outbox.session.query_one(text, &[&target]).await.unwrap().get(0)
}

#[tokio::test]
async fn everything_visible_is_pending_and_nothing_is_set_aside_twice() {
    // GIVEN a target with holes, watermarks, a kept row that it retries, a dead one, one whose message is gone
    let mut outbox = Outbox::create().await;
    outbox.insert(9).await;
    outbox.settle("lake", "{[1,10)}").await;
    outbox.settle("other", "{[1,6)}").await;
    for id in [3, 7] {
        outbox.retry("lake", id).await;
    }
    outbox.bury("lake", 2, "gone meanwhile").await;
    outbox.retry("lake", 2).await;
    outbox.bury("lake", 8, "too large").await;
    outbox.retry("other", 4).await;
    outbox.retain().await;
    outbox
        .run(
            "DELETE FROM outbox.kept WHERE id = 2; SET outbox_relay.keeper = 'on';
                DELETE FROM outbox.message WHERE id = 2; RESET outbox_relay.keeper",
        )
        .await;
    outbox.open_hole("lake", "{[7,8)}").await;
    outbox.dead_range("lake", "{[12,13)}").await;
    outbox.settled_ago("lake", 9, 1).await;
    assert_eq!((outbox.floor().await, outbox.messages().await), (6, vec![3, 4, 6, 7, 8, 9]));
    let epoch = "SELECT epoch::text FROM outbox.ledger WHERE target = 'lake'";
    let epoch: String = outbox.session.query_one(epoch, &[]).await.unwrap().get(0);
    // WHEN
    let ada = Decision { by: Some("ada"), reason: Some("it was restored without its ledger") };
    let rebuilt = rebuild(&mut outbox.session, &outbox.schema, "lake", &ada, false).await.unwrap();
    // THEN
    assert_ne!(rebuilt.epoch.to_string(), epoch);
    let expected = Rebuilt {
        settled_below: 3,
        epoch: rebuilt.epoch,
        pending: Count { rows: 6, at_least: false },
        hole_rows: 2,
        retry_rows: 2,
        dead_rows: 1,
        floor_restarted: false,
        others: vec![],
    };
    assert_eq!(rebuilt, expected);
    assert_eq!(settled(&outbox, "lake").await, "{[1,3)}");
    let pending = "outbox.message_state WHERE target = 'lake' AND state = 'pending'";
    assert_eq!(outbox.ids(pending).await, [3, 4, 6, 7, 8, 9]);
    // AND what is served from its dead copy still is; others are left alone
    assert_eq!(outbox.ids("outbox.retry WHERE target = 'lake'").await, [2]);
    assert_eq!(outbox.ids("outbox.dead WHERE target = 'lake'").await, [2]);
    assert_eq!(outbox.ids("outbox.retry WHERE target = 'other'").await, [4]);
    assert_eq!(outbox.ids("outbox.watermark").await, [0i64; 0]);
    assert_eq!(settled(&outbox, "other").await, "{[1,6)}");
    // AND it is recorded who decided it, why, and what was settled and no longer is
    let audit = "SELECT count(*) FROM outbox.decision
                 WHERE command = 'ledger rebuild' AND target = 'lake' AND decided_by = 'ada'
                   AND reason = 'it was restored without its ledger' AND rows = 6
                   AND ids = '{[3,10)}' AND filter = '{\"settled\": \"{[1,10)}\"}'";
    assert_eq!(outbox.count(audit).await, 1);
    // AND neither kept rows nor anything else is deleted before it is settled again
    assert_eq!((outbox.release().await, outbox.retain().await.deleted), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_message_that_was_kept_below_the_floor_is_delivered() {
    // GIVEN a floor far above two kept messages, whose retry rows a rebuild deletes
    let mut outbox = Outbox::create().await;
    outbox.insert(9).await;
    outbox.settle("amqp", "{[1,10)}").await;
    for id in [3, 5] {
        outbox.retry("amqp", id).await;
    }
    outbox.retain().await;
    assert_eq!((outbox.floor().await, outbox.messages().await), (10, vec![3, 5]));
    rebuild(&mut outbox.session, &outbox.schema, "amqp", &NOBODY, false).await.unwrap();
    assert_eq!(settled(&outbox, "amqp").await, "{[1,3)}");
    assert_eq!(outbox.ids("outbox.retry").await, [0i64; 0]);
    // WHEN a relay begins there
    let stage = Stage::new(outbox.database).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let relay = RelayProcess::start(&stage.config).await;
    // THEN both are delivered, and nothing is left pending
    stage.wait_received(2).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
}

#[tokio::test]
async fn an_id_that_is_not_committed_yet_is_pending_as_well() {
    // GIVEN an id between the floor and the lowest message, whose transaction is open
    let mut outbox = Outbox::create().await;
    let writer = outbox.another().await;
    writer.run("BEGIN; INSERT INTO outbox.message (topic) VALUES ('early')").await;
    outbox.insert(3).await;
    outbox.settle("lake", "{[1,5)}").await;
    // WHEN
    rebuild(&mut outbox.session, &outbox.schema, "lake", &NOBODY, false).await.unwrap();
    writer.run("COMMIT").await;
    // THEN
    assert_eq!(settled(&outbox, "lake").await, "{}");
    let pending = "outbox.message_state WHERE target = 'lake' AND state = 'pending'";
    assert_eq!(outbox.ids(pending).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn it_is_the_remedy_for_an_identity_that_was_restarted() {
    // GIVEN two targets, everything settled and deleted, and ids that begin anew
    let mut outbox = Outbox::create().await;
    outbox.insert(20).await;
    outbox.settle("a", "{[1,21)}").await;
    outbox.settle("b", "{[1,21)}").await;
    outbox.retain().await;
    outbox.run("ALTER TABLE outbox.message ALTER id RESTART").await;
    outbox.insert(3).await;
    // WHEN one is rebuilt
    let a = rebuild(&mut outbox.session, &outbox.schema, "a", &NOBODY, false).await.unwrap();
    // THEN it is told of the other, and nothing is deleted until that is done as well
    assert_eq!((a.settled_below, a.floor_restarted, a.others), (1, true, vec!["b".to_owned()]));
    assert_eq!(a.pending, Count { rows: 3, at_least: false });
    outbox.settle("a", "{[1,4)}").await;
    assert_eq!((outbox.retain().await.deleted, outbox.sweep().await), (0, 0));
    let b = rebuild(&mut outbox.session, &outbox.schema, "b", &NOBODY, false).await.unwrap();
    assert_eq!((b.settled_below, b.floor_restarted, b.others), (1, false, vec![]));
    outbox.settle("b", "{[1,3)}").await;
    assert_eq!((outbox.retain().await.deleted, outbox.sweep().await), (2, 0));
    assert_eq!(outbox.messages().await, [3]);
}

#[tokio::test]
async fn without_being_told_to_it_changes_nothing() {
    let mut outbox = Outbox::create().await;
    outbox.insert(2).await;
    outbox.settle("lake", "{[1,3)}").await;
    let asked = rebuild(&mut outbox.session, &outbox.schema, "lake", &NOBODY, true).await.unwrap();
    assert_eq!(asked.pending, Count { rows: 2, at_least: false });
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.decision").await, 0);
    assert_eq!(settled(&outbox, "lake").await, "{[1,3)}");
}

#[tokio::test]
async fn a_ledger_that_a_relay_works_on_is_not_rebuilt() {
    let mut outbox = Outbox::create().await;
    outbox.insert(2).await;
    outbox.settle("lake", "{[1,3)}").await;
    let relay = outbox.another().await;
    relay.run("SELECT pg_advisory_lock(k1, k2) FROM outbox.lock_key('lake')").await;
    let refused = rebuild(&mut outbox.session, &outbox.schema, "lake", &NOBODY, false).await;
    assert!(matches!(refused, Err(AdminError::Leased { .. })), "{refused:?}");
    assert_eq!(settled(&outbox, "lake").await, "{[1,3)}");
}
