//! A target's ledger row: where a new target begins, and how one ends.

use outbox_relay::admin::AdminError;
use outbox_relay::admin::target::{self, Removed};
use outbox_relay::config::Start;
use outbox_relay::decision::Decision;

use crate::keeper::outbox::{Outbox, pid};

const NOBODY: Decision<'static> = Decision { by: None, reason: None };

#[tokio::test]
async fn a_new_target_begins_at_the_floor() {
    // GIVEN a floor of 4
    let mut outbox = Outbox::create().await;
    outbox.insert(5).await;
    outbox.settle("old", "{[1,4)}").await;
    outbox.retain().await;
    // WHEN
    let made = ensure(&mut outbox, "new", Start::Earliest).await;
    // THEN
    assert_eq!((made.settled.to_string().as_str(), made.created), ("{[1,4)}", true));
    // AND the second relay finds what the first made
    let found = ensure(&mut outbox, "new", Start::Now).await;
    assert_eq!(found, target::LedgerRow { created: false, ..made });
}

#[tokio::test]
async fn a_new_target_of_an_empty_outbox_has_settled_nothing() {
    let mut outbox = Outbox::create().await;
    for (name, start) in [("earliest", Start::Earliest), ("now", Start::Now)] {
        assert_eq!(ensure(&mut outbox, name, start).await.settled.to_string(), "{}");
    }
}

#[tokio::test]
async fn a_target_that_starts_now_gets_what_is_not_visible_yet() {
    // GIVEN rows, rolled back ids, and an id whose transaction is still open
    let mut outbox = Outbox::create().await;
    outbox.insert(3).await;
    outbox.settle("old", "{[1,2)}").await;
    outbox.retain().await;
    outbox.roll_back(2).await;
    outbox.insert(1).await;
    let writer = outbox.another().await;
    writer.run("BEGIN; INSERT INTO outbox.message (topic) VALUES ('early')").await;
    outbox.insert(1).await;
    assert_eq!(outbox.messages().await, [2, 3, 6, 8]);
    // WHEN
    let made = ensure(&mut outbox, "new", Start::Now).await;
    // THEN everything visible is settled, and what is not is an open hole
    assert_eq!(made.settled.to_string(), "{[1,9)}");
    let holes = "SELECT string_agg(ranges::text, ' ') FROM outbox.hole
         WHERE target = 'new' AND dead_at IS NULL";
    let holes: String = outbox.session.query_one(holes, &[]).await.unwrap().get(0);
    assert_eq!(holes, "{[4,6),[7,8)}");
    // AND the view says so
    writer.run("COMMIT").await;
    let pending = "outbox.message_state WHERE target = 'new' AND state = 'pending'";
    assert_eq!(outbox.ids(pending).await, [7]);
}

#[tokio::test]
async fn a_target_is_not_made_while_the_floor_moves() {
    // GIVEN somebody who holds the lock of the floor
    let outbox = Outbox::create().await;
    outbox.insert(5).await;
    outbox.settle("old", "{[1,6)}").await;
    let keeper = outbox.another().await;
    keeper.run("BEGIN; SELECT pg_advisory_xact_lock(k1, k2) FROM outbox.lock_key('@floor')").await;
    let mut relay = outbox.another().await;
    let relay_pid = pid(&relay).await;
    let schema = outbox.schema.clone();
    let mut making = tokio::task::JoinSet::new();
    making.spawn(async move { target::ensure(&mut relay, &schema, "new", Start::Earliest).await });
    outbox.blocked(relay_pid).await;
    // WHEN the floor has moved
    keeper.run("UPDATE outbox.meta SET floor = 6; COMMIT").await;
    // THEN the new target begins there
    let made = making.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(made.settled.to_string(), "{[1,6)}");
}

#[tokio::test]
async fn a_target_is_removed_with_all_it_had() {
    // GIVEN two targets, of which one holds everything back
    let mut outbox = busy_outbox().await;
    let would = Removed { retry_rows: 1, hole_rows: 2, dead_rows: 1 };
    // WHEN it is only asked
    let asked =
        target::remove(&mut outbox.session, &outbox.schema, "gone", false, &NOBODY, true).await;
    // THEN nothing changes
    assert_eq!(asked.unwrap(), would);
    assert_eq!(outbox.retain().await.floor, 1);
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.decision").await, 0);
    // WHEN it is done
    let ada = Decision { by: Some("ada"), reason: Some("the lake is closed") };
    let done =
        target::remove(&mut outbox.session, &outbox.schema, "gone", false, &ada, false).await;
    // THEN its dead message is still there, and retention goes on
    assert_eq!(done.unwrap(), would);
    for (table, rows) in [("ledger", 0), ("hole", 0), ("retry", 0), ("watermark", 0), ("dead", 1)] {
        let count = format!("SELECT count(*) FROM outbox.{table} WHERE target = 'gone'");
        assert_eq!(outbox.count(&count).await, rows, "{table}");
    }
    assert_eq!(outbox.retain().await.floor, 6);
    // AND it is recorded who decided it, why, how far it had come, and what was set aside
    let audit = "SELECT count(*) FROM outbox.decision
                 WHERE command = 'target remove' AND target = 'gone' AND decided_by = 'ada'
                   AND reason = 'the lake is closed' AND rows = 1 AND ids = '{[2,3)}'
                   AND filter = '{\"purge_dead\": false, \"settled\": \"{[2,4)}\"}'
                   AND message_ids IS NULL";
    assert_eq!(outbox.count(audit).await, 1);
}

#[tokio::test]
async fn a_target_can_be_removed_with_its_dead_messages() {
    let mut outbox = busy_outbox().await;
    let done =
        target::remove(&mut outbox.session, &outbox.schema, "gone", true, &NOBODY, false).await;
    assert_eq!(done.unwrap().dead_rows, 1);
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.dead").await, 0);
    // AND the record knows it
    let audit = "outbox.message WHERE EXISTS (
                     SELECT FROM outbox.decision
                     WHERE decided_by = session_user AND rows = 2 AND ids = '{[2,3),[5,6)}'
                       AND message_ids = ARRAY[message_id])";
    assert_eq!(outbox.ids(audit).await, [5]);
}

#[tokio::test]
async fn a_target_that_a_relay_works_on_is_not_removed() {
    // GIVEN the lease is held
    let mut outbox = busy_outbox().await;
    let relay = outbox.another().await;
    relay
        .run(
            "SET application_name = 'outbox-relay gone';
              SELECT pg_advisory_lock(k1, k2) FROM outbox.lock_key('gone')",
        )
        .await;
    // WHEN
    let refused =
        target::remove(&mut outbox.session, &outbox.schema, "gone", false, &NOBODY, false).await;
    // THEN the holder is named
    let Err(error @ AdminError::Leased { .. }) = refused else { panic!("{refused:?}") };
    let said = error.to_string();
    let named = format!("pid {}, application outbox-relay gone", pid(&relay).await);
    assert!(said.contains(&named), "{said}");
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.ledger").await, 2);
}

#[tokio::test]
async fn an_unknown_target_is_answered_with_those_there_are() {
    let mut outbox = busy_outbox().await;
    let refused =
        target::remove(&mut outbox.session, &outbox.schema, "lkae", false, &NOBODY, false).await;
    let said = refused.unwrap_err().to_string();
    assert_eq!(said, "there is no target \"lkae\" in the outbox\nhint: there are: gone, lake");
}

#[tokio::test]
async fn a_target_that_moves_forgets_where_it_was() {
    // GIVEN
    let mut outbox = busy_outbox().await;
    outbox.run("UPDATE outbox.ledger SET broker_kind = 'kafka', broker_place = 'old'").await;
    let ada = Decision { by: Some("ada"), reason: Some("the old cluster is gone") };
    let known = "SELECT count(*) FROM outbox.ledger
                 WHERE target = 'lake' AND (broker_kind IS NOT NULL OR broker_place IS NOT NULL)";
    // WHEN it is only asked THEN nothing changes
    let asked = target::relocate(&mut outbox.session, &outbox.schema, "lake", &ada, true).await;
    assert_eq!(asked.unwrap().from.unwrap(), "the Kafka cluster \"old\"");
    assert_eq!(outbox.count(known).await, 1);
    // WHEN it is done THEN its progress stays, and who decided it is recorded
    target::relocate(&mut outbox.session, &outbox.schema, "lake", &ada, false).await.unwrap();
    assert_eq!(outbox.count(known).await, 0);
    let kept = "SELECT count(*) FROM outbox.ledger WHERE target = 'lake' AND settled = '{[1,6)}'";
    assert_eq!(outbox.count(kept).await, 1);
    let audit = "SELECT count(*) FROM outbox.decision
                 WHERE command = 'target move' AND target = 'lake' AND decided_by = 'ada'
                   AND filter->>'from' LIKE '%\"old\"'";
    assert_eq!(outbox.count(audit).await, 1);
}

#[tokio::test]
async fn a_target_is_renamed_with_all_it_has() {
    // GIVEN
    let mut outbox = busy_outbox().await;
    let rows = async |outbox: &Outbox, name: &str| {
        let mut rows = Vec::new();
        for table in ["ledger", "hole", "retry", "watermark", "dead"] {
            let count = format!("SELECT count(*) FROM outbox.{table} WHERE target = '{name}'");
            rows.push(outbox.count(&count).await);
        }
        rows
    };
    let before = rows(&outbox, "gone").await;
    // WHEN
    let rename =
        target::rename(&mut outbox.session, &outbox.schema, "gone", "pond", &NOBODY, false);
    let renamed = rename.await.unwrap();
    // THEN
    assert_eq!(rows(&outbox, "pond").await, before);
    assert_eq!(rows(&outbox, "gone").await, [0; 5]);
    assert_eq!(renamed.rows, before.iter().sum::<i64>().unsigned_abs());
    let audit = "SELECT count(*) FROM outbox.decision
                 WHERE command = 'target rename' AND target = 'pond'
                   AND filter = '{\"from\": \"gone\", \"to\": \"pond\"}'";
    assert_eq!(outbox.count(audit).await, 1);
    // AND no table that says whose a row is was forgotten
    let target = "SELECT count(*) FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
                  WHERE relnamespace = 'outbox'::regnamespace AND relkind = 'r' AND attname = 'target'";
    assert!(outbox.count(target).await >= 7);
}

#[tokio::test]
async fn a_name_that_is_taken_or_none_is_refused() {
    let mut outbox = busy_outbox().await;
    for (name, named) in
        [("lake", "already"), ("Lake", "no name"), ("@keeper", "no name"), ("", "no name")]
    {
        let rename =
            target::rename(&mut outbox.session, &outbox.schema, "gone", name, &NOBODY, false);
        let refused = rename.await.unwrap_err().to_string();
        assert!(refused.contains(named) && refused.contains("hint:"), "{refused}");
    }
    // A target that was removed has left its dead messages.
    target::remove(&mut outbox.session, &outbox.schema, "gone", false, &NOBODY, false)
        .await
        .unwrap();
    let rename =
        target::rename(&mut outbox.session, &outbox.schema, "lake", "gone", &NOBODY, false);
    assert!(matches!(rename.await, Err(AdminError::NameTaken { .. })));
    // A relay works on it.
    let relay = outbox.another().await;
    relay.run("SELECT pg_advisory_lock(k1, k2) FROM outbox.lock_key('lake')").await;
    for (from, to) in [("lake", "pond")] {
        let rename = target::rename(&mut outbox.session, &outbox.schema, from, to, &NOBODY, false);
        assert!(matches!(rename.await, Err(AdminError::Leased { .. })));
    }
    let relocate = target::relocate(&mut outbox.session, &outbox.schema, "lake", &NOBODY, false);
    assert!(matches!(relocate.await, Err(AdminError::Leased { .. })));
}

async fn ensure(outbox: &mut Outbox, name: &str, start: Start) -> target::LedgerRow {
    target::ensure(&mut outbox.session, &outbox.schema, name, start).await.unwrap()
}

/// Target `lake` has settled everything, `gone` almost nothing.
async fn busy_outbox() -> Outbox {
    let outbox = Outbox::create().await;
    outbox.insert(5).await;
    outbox.settle("lake", "{[1,6)}").await;
    outbox.settle("gone", "{[2,4)}").await;
    outbox.open_hole("gone", "{[3,4)}").await;
    outbox.dead_range("gone", "{[9,10)}").await;
    outbox.retry("gone", 2).await;
    outbox.settled_ago("gone", 2, 1).await;
    outbox.bury("gone", 5, "no queue").await;
    outbox
}
