//! Dead messages: listed, shown, requeued, discarded, and printed without their payloads.

use std::time::Duration;

use outbox_relay::admin::AdminError;
use outbox_relay::admin::dead::{self, Changed, Filter};
use outbox_relay::admin::moment::Moment;
use outbox_relay::command::dead::{render_changed, render_list, render_message};
use outbox_relay::decision::Decision;
use time::macros::datetime;
use uuid::Uuid;

use crate::keeper::outbox::Outbox;

const ADA: Decision<'_> = Decision { by: Some("ada"), reason: None };

/// Five messages, dead for `lake`: 1 to 4; for `mill`: 5.
async fn graveyard() -> Outbox {
    let outbox = Outbox::create().await;
    outbox
        .run(
            "INSERT INTO outbox.message (topic, type, key, headers, payload) VALUES
             ('order.placed', 'Order', 'k1', '{\"trace\": \"a\"}', 'secret of one'),
             ('order.placed', NULL, 'k2', NULL, NULL),
             ('order.paid', NULL, NULL, NULL, 'secret of three'),
             ('order.paid', NULL, E'k\\x1b[2J', NULL, ''),
             ('order.paid', NULL, 'k1', NULL, 'x')",
        )
        .await;
    outbox.settle("lake", "{[1,6)}").await;
    outbox.settle("mill", "{[1,6)}").await;
    outbox.bury("lake", 1, "message of 9,000 bytes > 8,000").await;
    outbox.bury("lake", 2, "no queue: 100%_sure").await;
    outbox.bury("lake", 3, "No Queue bound").await;
    outbox.bury("lake", 4, "illegal routing key").await;
    outbox.bury("mill", 5, "no queue").await;
    outbox
        .run("UPDATE outbox.dead SET died_at = now() - interval '1 h' * id, created_at = '2026-01-02 03:04:05Z'")
        .await;
    outbox
}

async fn listed(outbox: &Outbox, filter: Filter) -> Vec<i64> {
    let rows = dead::list(&*outbox.session, &outbox.schema, &filter, 100).await.unwrap();
    rows.iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn each_filter_narrows_the_list() {
    let outbox = graveyard().await;
    let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600 + 1_800));
    let text = |text: &str| Some(text.to_owned());
    let none = Filter::default;
    let cases: [(Filter, &[i64]); 9] = [
        (none(), &[1, 2, 3, 4, 5]),
        (Filter { target: text("lake"), ..none() }, &[1, 2, 3, 4]),
        (Filter { ids: vec![4, 2, 99], ..none() }, &[2, 4]),
        (Filter { key: text("k1"), ..none() }, &[1, 5]),
        (Filter { topic: text("order.paid"), ..none() }, &[3, 4, 5]),
        (Filter { reason: text("NO QUEUE"), ..none() }, &[2, 3, 5]),
        (Filter { reason: text("100%_s"), ..none() }, &[2]),
        (Filter { older_than: hours(2), newer_than: hours(4), ..none() }, &[3, 4]),
        (Filter { target: text("mill"), key: text("k2"), ..none() }, &[]),
    ];
    for (filter, ids) in cases {
        assert_eq!(listed(&outbox, filter.clone()).await, ids, "{filter:?}");
    }
    let two = dead::list(&*outbox.session, &outbox.schema, &none(), 2).await.unwrap();
    assert_eq!(two.len(), 2);
}

#[tokio::test]
async fn the_list_is_a_table_without_payloads() {
    let outbox = graveyard().await;
    outbox.retry("lake", 2).await;
    let filter = Filter::default();
    let mut rows = dead::list(&*outbox.session, &outbox.schema, &filter, 5).await.unwrap();
    for row in &mut rows {
        row.died_at = Moment::At(datetime!(2026-01-03 04:05:06 UTC));
    }
    insta::assert_snapshot!(render_list(&rows, 5), @r#"
    TARGET  ID  DIED                  ATTEMPTS  BYTES  TOPIC         KEY         REASON
    lake    1   2026-01-03T04:05:06Z  3         13     order.placed  k1          message of 9,000 bytes > 8,000
    lake    2   2026-01-03T04:05:06Z  3         -      order.placed  k2          (requeued) no queue: 100%_sure
    lake    3   2026-01-03T04:05:06Z  3         15     order.paid    -           No Queue bound
    lake    4   2026-01-03T04:05:06Z  3         0      order.paid    k\u{1b}[2J  illegal routing key
    mill    5   2026-01-03T04:05:06Z  3         1      order.paid    k1          no queue
    there may be more; hint: --limit
    "#);
    insta::assert_snapshot!(render_list(&[], 5), @r#"
    no dead messages
    "#);
    let json = serde_json::to_string(&rows).unwrap();
    assert!(!json.contains("secret") && json.contains(r#""type":"Order""#), "{json}");
}

#[tokio::test]
async fn one_message_is_shown_in_full_but_for_its_payload() {
    let outbox = graveyard().await;
    let shown = dead::show(&*outbox.session, &outbox.schema, "lake", 1).await.unwrap();
    let mut shown = shown.unwrap();
    shown.row.died_at = Moment::At(datetime!(2026-01-03 04:05:06 UTC));
    shown.row.message_id = Uuid::nil();
    insta::assert_snapshot!(render_message(&shown), @r#"
    target      lake
    id          1
    message id  00000000-0000-0000-0000-000000000000
    topic       order.placed
    type        Order
    key         k1
    headers     {"trace": "a"}
    payload     13 bytes
    written     2026-01-02T03:04:05Z
    died        2026-01-03T04:05:06Z
    attempts    3
    class       refused
    reason      message of 9,000 bytes > 8,000
    requeued    no
    "#);
    let json = serde_json::to_string(&shown).unwrap();
    assert!(!json.contains("secret") && json.contains(r#""headers":{"trace": "a"}"#), "{json}");

    // A payload is bytes, empty or absent, and each is something else.
    let payload =
        async |id| dead::payload(&*outbox.session, &outbox.schema, "lake", id).await.unwrap();
    assert_eq!(payload(1).await, Some(Some(b"secret of one".to_vec())));
    assert_eq!(payload(2).await, Some(None));
    assert_eq!(payload(4).await, Some(Some(vec![])));
    assert_eq!(payload(99).await, None);
    let absent = dead::show(&*outbox.session, &outbox.schema, "mill", 1).await.unwrap();
    assert!(absent.is_none());
}

#[tokio::test]
async fn a_requeued_message_is_due_at_once_and_holds_nobody() {
    // GIVEN
    let mut outbox = graveyard().await;
    let filter = Filter { reason: Some("no queue".to_owned()), ..Filter::default() };
    // WHEN it is only asked
    let asked =
        dead::requeue(&mut outbox.session, &outbox.schema, "lake", &filter, &ADA, true).await;
    // THEN nothing changes
    let two = Changed { rows: 2, ids: vec![2, 3], more: false };
    assert_eq!(asked.unwrap(), two);
    assert!(outbox.ids("outbox.retry").await.is_empty());
    // WHEN it is done
    let done =
        dead::requeue(&mut outbox.session, &outbox.schema, "lake", &filter, &ADA, false).await;
    // THEN
    assert_eq!(done.unwrap(), two);
    let due = "outbox.retry WHERE target = 'lake' AND class = 'requeued' AND attempts = 0
               AND NOT holds AND next_at <= now() AND key IS NOT DISTINCT FROM (
                   SELECT key FROM outbox.message WHERE message.id = retry.id)";
    assert_eq!(outbox.ids(due).await, [2, 3]);
    // AND the dead rows stay, as copies, and are not requeued twice
    assert_eq!(listed(&outbox, Filter::default()).await.len(), 5);
    let again =
        dead::requeue(&mut outbox.session, &outbox.schema, "lake", &filter, &ADA, false).await;
    assert_eq!(again.unwrap().rows, 0);
    // AND retention keeps the messages for them
    let round = outbox.retain().await;
    assert_eq!((round.floor, round.kept), (6, 2));
    assert_eq!(outbox.messages().await, [2, 3]);
}

#[tokio::test]
async fn a_message_whose_row_is_gone_is_requeued_from_its_copy() {
    let mut outbox = graveyard().await;
    outbox.retain().await;
    assert!(outbox.messages().await.is_empty());
    let filter = Filter { ids: vec![1], ..Filter::default() };
    dead::requeue(&mut outbox.session, &outbox.schema, "lake", &filter, &ADA, false).await.unwrap();
    assert_eq!(outbox.ids("outbox.retry").await, [1]);
    assert_eq!(outbox.ids("outbox.dead WHERE id = 1").await, [1]);
    assert!(outbox.ids("outbox.kept").await.is_empty());
}

#[tokio::test]
async fn nothing_is_requeued_for_a_target_that_is_gone() {
    let mut outbox = graveyard().await;
    outbox.run("DELETE FROM outbox.ledger WHERE target = 'lake'").await;
    let refused =
        dead::requeue(&mut outbox.session, &outbox.schema, "lake", &Filter::default(), &ADA, false)
            .await;
    assert!(matches!(refused, Err(AdminError::UnknownTarget { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_discarded_message_leaves_a_name_and_a_reason() {
    // GIVEN four dead messages of the target, one of them requeued
    let mut outbox = graveyard().await;
    outbox.retry("lake", 3).await;
    let decision = Decision { by: Some("ada"), reason: Some("the order was cancelled") };
    let all = Filter::default();
    // WHEN it is only asked, and then done
    for dry_run in [true, false] {
        let changed =
            dead::discard(&mut outbox.session, &outbox.schema, "lake", &all, &decision, dry_run);
        assert_eq!(changed.await.unwrap(), Changed { rows: 3, ids: vec![1, 2, 4], more: false });
        let left: &[i64] = if dry_run { &[1, 2, 3, 4, 5] } else { &[3, 5] };
        assert_eq!(listed(&outbox, Filter::default()).await, left);
    }
    // THEN
    let audit = "outbox.message WHERE EXISTS (
                     SELECT FROM outbox.decision
                     WHERE command = 'dead discard' AND target = 'lake' AND decided_by = 'ada'
                       AND reason = 'the order was cancelled' AND rows = 3 AND filter = '{}'
                       AND ids @> message.id AND message_ids @> ARRAY[message_id])";
    assert_eq!(outbox.ids(audit).await, [1, 2, 4]);
    // AND without a name it is the role's
    let decision = Decision { by: None, reason: Some("test") };
    let mill = dead::discard(&mut outbox.session, &outbox.schema, "mill", &all, &decision, false);
    assert_eq!(mill.await.unwrap().rows, 1);
    let by_role = "SELECT count(*) FROM outbox.decision
                   WHERE target = 'mill' AND decided_by = session_user AND ids @> 5::bigint";
    assert_eq!(outbox.count(by_role).await, 1);
}

#[tokio::test]
async fn each_filter_chooses_what_is_requeued_or_discarded_and_is_recorded() {
    let mut outbox = graveyard().await;
    let (none, text) = (Filter::default, |text: &str| Some(text.to_owned()));
    let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600 + 1_800));
    let cases: [(Filter, &[i64], &str); 6] = [
        (Filter { ids: vec![2, 99], ..none() }, &[2], r#"{"ids": [2, 99]}"#),
        (Filter { key: text("k1"), ..none() }, &[1], r#"{"key": "k1"}"#),
        (Filter { topic: text("order.paid"), ..none() }, &[3, 4], r#"{"topic": "order.paid"}"#),
        (Filter { reason: text("no queue"), ..none() }, &[2, 3], r#"{"reason": "no queue"}"#),
        (Filter { older_than: hours(2), ..none() }, &[3, 4], r#"{"older_than": "2h 30m"}"#),
        (Filter { newer_than: hours(2), ..none() }, &[1, 2], r#"{"newer_than": "2h 30m"}"#),
    ];
    for (filter, ids, recorded) in cases {
        let (session, schema) = (&mut outbox.session, &outbox.schema);
        // WHEN it is only asked THEN nothing is recorded
        let asked = dead::requeue(session, schema, "lake", &filter, &ADA, true).await.unwrap();
        assert_eq!(asked.ids, ids, "{filter:?}");
        let asked = dead::discard(session, schema, "lake", &filter, &ADA, true).await.unwrap();
        assert_eq!(asked.ids, ids, "{filter:?}");
        assert_eq!(session.count("SELECT count(*) FROM outbox.decision").await, 0);
        // WHEN it is done THEN it is, once
        let done = dead::requeue(session, schema, "lake", &filter, &ADA, false).await.unwrap();
        assert_eq!(done.ids, ids, "{filter:?}");
        let audit = format!(
            "SELECT count(*) FROM outbox.decision
             WHERE command = 'dead requeue' AND target = 'lake' AND decided_by = 'ada'
               AND rows = {} AND filter = '{recorded}' AND message_ids IS NULL",
            ids.len()
        );
        assert_eq!(session.count(&audit).await, 1, "{audit}");
        session.run("DELETE FROM outbox.decision; DELETE FROM outbox.retry").await;
    }
}

#[test]
fn what_was_changed_is_said_in_a_line() {
    let some = Changed { rows: 2, ids: vec![7, 9], more: false };
    insta::assert_snapshot!(render_changed("requeued", false, &some), @r#"
    2 messages requeued: 7, 9
    "#);
    let many = Changed { rows: 100_000, ids: vec![1, 2], more: true };
    insta::assert_snapshot!(render_changed("discarded", true, &many), @r#"
    100000 messages would be discarded: 1, 2, …
    there may be more; hint: run it again
    "#);
}

#[tokio::test]
async fn an_odd_row_hides_no_other() {
    // GIVEN times that no calendar has, headers that no number type holds, and directions of writing
    let outbox = graveyard().await;
    outbox
        .run(
            r#"UPDATE outbox.dead SET created_at = 'infinity' WHERE id = 1;
               UPDATE outbox.dead SET created_at = '-infinity' WHERE id = 2;
               UPDATE outbox.dead SET created_at = '0044-03-15 BC' WHERE id = 3;
               UPDATE outbox.dead SET created_at = '294276-01-01', topic = E'a\u202Eb' WHERE id = 4;
               UPDATE outbox.dead SET headers = '{"big": 1e400}' WHERE id = 5;
               UPDATE outbox.dead
               SET headers = ('{"deep": ' || repeat('[', 500) || repeat(']', 500) || '}')::jsonb
               WHERE id = 3"#,
        )
        .await;
    // WHEN they are listed and shown, for people and for programs THEN nothing is hidden
    let rows = dead::list(&*outbox.session, &outbox.schema, &Filter::default(), 100).await.unwrap();
    assert_eq!(rows.len(), 5);
    assert!(serde_json::to_string(&rows).is_ok());
    let text = render_list(&rows, 100);
    assert!(text.contains("a\\u{202e}b"), "{text}");
    for (id, written) in [(1, "infinity"), (2, "-infinity"), (3, "-0043"), (4, "year 294")] {
        let message = dead::show(&*outbox.session, &outbox.schema, "lake", id).await.unwrap();
        let message = message.expect("it is dead");
        let text = render_message(&message);
        assert!(text.contains(written), "{text}");
        assert!(serde_json::to_string(&message).is_ok());
    }
    let message = dead::show(&*outbox.session, &outbox.schema, "mill", 5).await.unwrap();
    let json = serde_json::to_string(&message).unwrap();
    // jsonb stores a number as numeric: its digits, all of them.
    assert!(json.contains(&format!("1{}", "0".repeat(400))), "{json}");
}
