//! I1 for the keeper: retention never removes an unsettled row, nor one that committed late.

use outbox_relay::config::RetentionConfig;
use outbox_relay::keeper::horizon::Held;

use super::outbox::{Outbox, keep_hours, keep_nothing};
use crate::support::patience::until;

#[tokio::test]
async fn without_a_ledger_nothing_is_deleted() {
    // GIVEN rows and no target
    let mut outbox = Outbox::create().await;
    outbox.insert(3).await;
    // WHEN
    let round = outbox.retain().await;
    // THEN
    assert_eq!((round.floor, round.deleted, round.held), (1, 0, Held::NoLedger));
    assert_eq!(outbox.messages().await, [1, 2, 3]);
}

#[tokio::test]
async fn the_floor_follows_the_slowest_of_two_targets() {
    // GIVEN two targets with different progress
    let mut outbox = Outbox::create().await;
    outbox.insert(10).await;
    outbox.settle("fast", "{[1,11)}").await;
    outbox.settle("slow", "{[1,4),[7,9)}").await;
    // WHEN
    let round = outbox.retain().await;
    // THEN the first gap of the slow one is where it ends
    assert_eq!((round.floor_before, round.floor, round.deleted), (1, 4, 3));
    assert_eq!(round.held, Held::Pending { target: "slow".to_owned(), id: 4 });
    assert_eq!(outbox.messages().await, [4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(outbox.floor().await, 4);

    // WHEN that has settled the rest
    outbox.settle("slow", "{[1,11)}").await;
    let round = outbox.retain().await;
    // THEN
    assert_eq!((round.floor, round.deleted, round.held), (11, 7, Held::Nothing));
    assert!(outbox.messages().await.is_empty());
    assert_eq!(outbox.retain().await.floor, 11);
}

#[tokio::test]
async fn an_open_hole_is_not_passed() {
    // GIVEN a row whose id was drawn early, not committed when its neighbours were settled
    let mut outbox = Outbox::create().await;
    outbox.insert(1).await;
    let writer = outbox.another().await;
    writer.run("BEGIN; INSERT INTO outbox.message (topic) VALUES ('early')").await;
    outbox.insert(2).await;
    outbox.settle("lake", "{[1,5)}").await;
    outbox.open_hole("lake", "{[2,3)}").await;
    // WHEN retention runs before and after its commit
    let before = outbox.retain().await;
    writer.run("COMMIT").await;
    let after = outbox.retain().await;
    // THEN it is there for the reader that has the hole
    assert_eq!((before.floor, before.deleted), (2, 1));
    assert_eq!(before.held, Held::OpenHole { target: "lake".to_owned(), id: 2 });
    assert_eq!((after.floor, after.deleted), (2, 0));
    assert_eq!(outbox.messages().await, [2, 3, 4]);
}

#[tokio::test]
async fn a_row_in_a_dead_range_is_late_for_that_target_alone() {
    // GIVEN a row that target a proved dead, wrongly, and target b delivered
    let mut outbox = Outbox::create().await;
    outbox.insert(5).await;
    outbox.settle("a", "{[1,6)}").await;
    outbox.settle("b", "{[1,6)}").await;
    outbox.dead_range("a", "{[2,3)}").await;
    // WHEN the floor passes it
    let round = outbox.retain().await;
    // THEN it is kept, and in retry for a only
    assert_eq!((round.floor, round.deleted, round.kept, round.late), (6, 4, 1, 1));
    assert_eq!(outbox.messages().await, [2]);
    assert_eq!(outbox.ids("outbox.kept").await, [2]);
    assert_eq!(outbox.late("a").await, [2]);
    assert!(outbox.late("b").await.is_empty());
    assert_eq!(outbox.late_rows().await, 1);
    // AND the dead range is forgotten
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.hole").await, 0);
}

#[tokio::test]
async fn dead_ranges_are_trimmed_to_what_lies_above_the_floor() {
    // GIVEN
    let mut outbox = Outbox::create().await;
    outbox.insert(2).await;
    outbox.roll_back(4).await;
    outbox.insert(2).await;
    outbox.roll_back(2).await;
    outbox.settle("lake", "{[1,11)}").await;
    outbox.dead_range("lake", "{[3,7),[9,11)}").await;
    let config = RetentionConfig { delete_rows_max: 2, ..keep_nothing() };
    // WHEN the floor stands behind the first
    let round = outbox.retain_with(&config).await;
    // THEN
    assert_eq!((round.floor, round.more), (7, true));
    let ranges =
        outbox.session.query_one("SELECT ranges::text FROM outbox.hole", &[]).await.unwrap();
    assert_eq!(ranges.get::<_, String>(0), "{[9,11)}");
}

#[tokio::test]
async fn a_row_that_a_target_still_retries_is_kept_until_that_has_gone() {
    // GIVEN
    let mut outbox = Outbox::create().await;
    outbox.insert(4).await;
    outbox.settle("a", "{[1,5)}").await;
    outbox.settle("b", "{[1,5)}").await;
    outbox.retry("a", 2).await;
    outbox.retry("b", 2).await;
    outbox.retry("b", 3).await;
    // WHEN
    let round = outbox.retain().await;
    // THEN
    assert_eq!((round.floor, round.deleted, round.kept), (5, 2, 2));
    assert_eq!(outbox.messages().await, [2, 3]);
    // WHEN one of two has delivered it
    outbox.run("DELETE FROM outbox.retry WHERE target = 'b'").await;
    // THEN only what nobody needs goes
    assert_eq!(outbox.release().await, 1);
    assert_eq!(outbox.messages().await, [2]);
    // WHEN the other has, too
    outbox.run("DELETE FROM outbox.retry").await;
    // THEN
    assert_eq!(outbox.release().await, 1);
    assert!(outbox.messages().await.is_empty());
    assert!(outbox.ids("outbox.kept").await.is_empty());
}

#[tokio::test]
async fn a_kept_row_that_a_rebuilt_ledger_misses_stays() {
    // GIVEN a kept row that nobody retries any more, and a target whose ledger was rebuilt
    let mut outbox = Outbox::create().await;
    outbox.insert(3).await;
    outbox.settle("a", "{[1,4)}").await;
    outbox.retry("a", 2).await;
    outbox.retain().await;
    outbox.run("DELETE FROM outbox.retry; UPDATE outbox.ledger SET settled = '{[1,2)}'").await;
    // WHEN
    assert_eq!(outbox.release().await, 0);
    // THEN not before it has it, and in no open hole
    outbox.settle("a", "{[1,4)}").await;
    outbox.open_hole("a", "{[2,3)}").await;
    assert_eq!(outbox.release().await, 0);
    outbox.run("DELETE FROM outbox.hole").await;
    assert_eq!(outbox.release().await, 1);
}

#[tokio::test]
async fn a_retry_row_that_is_served_from_its_dead_copy_keeps_nothing() {
    // GIVEN a requeued row whose message is gone
    let mut outbox = Outbox::create().await;
    outbox.roll_back(1).await;
    outbox.insert(2).await;
    outbox.settle("a", "{[1,4)}").await;
    outbox.retry("a", 1).await;
    // WHEN
    let round = outbox.retain().await;
    // THEN
    assert_eq!((round.floor, round.deleted, round.kept), (4, 2, 0));
    assert!(outbox.ids("outbox.kept").await.is_empty());
    assert_eq!(outbox.ids("outbox.retry").await, [1]);
}

#[tokio::test]
async fn age_counts_from_settling_by_the_last_target() {
    // GIVEN rows settled by a long ago, by b partly so
    let mut outbox = Outbox::create().await;
    outbox.insert(9).await;
    for target in ["a", "b"] {
        outbox.settle(target, "{[1,10)}").await;
        outbox.settled_ago(target, 3, 10).await;
    }
    outbox.settled_ago("a", 8, 9).await;
    outbox.settled_ago("b", 8, 1).await;
    // WHEN
    let round = outbox.retain_with(&keep_hours(5)).await;
    // THEN
    assert_eq!((round.floor, round.deleted), (3, 2));
    assert_eq!(round.held, Held::Keep { target: "b".to_owned() });
}

#[tokio::test]
async fn a_clock_that_was_set_back_keeps_rows_longer() {
    // GIVEN watermarks that lie in the future
    let mut outbox = Outbox::create().await;
    outbox.insert(3).await;
    outbox.settle("a", "{[1,3)}").await;
    outbox.settled_ago("a", 3, -24).await;
    // WHEN
    let round = outbox.retain_with(&keep_hours(1)).await;
    // THEN nothing goes, and it is said why
    assert_eq!((round.floor, round.deleted), (1, 0));
    assert_eq!(round.held, Held::ClockWentBack { target: "a".to_owned() });
    // AND an unsettled row stays even when nothing is to be kept
    assert_eq!(outbox.retain().await.floor, 3);
    assert_eq!(outbox.messages().await, [3]);
}

#[tokio::test]
async fn keep_rows_max_counts_rows_and_not_ids() {
    // GIVEN 10 rows among 7 rolled back ids, all settled, none old
    let mut outbox = Outbox::create().await;
    outbox.insert(5).await;
    outbox.roll_back(7).await;
    outbox.insert(5).await;
    outbox.settle("a", "{[1,18)}").await;
    outbox.dead_range("a", "{[6,13)}").await;
    let config = RetentionConfig { keep_rows_max: 4, ..keep_hours(24) };
    // WHEN
    let round = outbox.retain_with(&config).await;
    // THEN
    assert_eq!((round.deleted, round.more), (6, false));
    assert_eq!(outbox.messages().await, [14, 15, 16, 17]);
    // AND it stands still
    assert_eq!(outbox.retain_with(&config).await.floor, 14);
    // WHEN one transaction may delete less
    outbox.insert(5).await;
    outbox.settle("a", "{[1,23)}").await;
    let config = RetentionConfig { delete_rows_max: 3, ..config };
    let round = outbox.retain_with(&config).await;
    // THEN it takes more of them
    assert_eq!((round.deleted, round.more), (3, true));
    assert_eq!(outbox.retain_with(&config).await.deleted, 2);
}

#[tokio::test]
async fn a_round_deletes_at_most_delete_rows_max() {
    // GIVEN
    let mut outbox = Outbox::create().await;
    outbox.insert(7).await;
    outbox.settle("a", "{[1,8)}").await;
    let config = RetentionConfig { delete_rows_max: 3, ..keep_nothing() };
    // WHEN, THEN
    for (deleted, more, floor) in [(3, true, 4), (3, true, 7), (1, false, 8)] {
        let round = outbox.retain_with(&config).await;
        assert_eq!((round.deleted, round.more, round.floor), (deleted, more, floor));
    }
}

#[tokio::test]
async fn a_round_passes_at_most_dead_ranges_max_and_says_so() {
    // GIVEN four dead ranges, two of them at the same id
    let mut outbox = Outbox::create().await;
    for _ in 0..3 {
        outbox.roll_back(1).await;
        outbox.insert(1).await;
    }
    for target in ["a", "b"] {
        outbox.settle(target, "{[1,7)}").await;
        outbox.dead_range(target, "{[1,2)}").await;
    }
    outbox.dead_range("a", "{[3,4),[5,6)}").await;
    let mut held = Vec::new();
    // WHEN
    while held.len() < 9 {
        let config = keep_nothing();
        let round = outbox_relay::keeper::retention::round(
            &mut outbox.session,
            &outbox.schema,
            &config,
            1,
            &[],
        );
        let round = round.await.unwrap();
        held.push((round.floor, round.held));
        if !round.more {
            break;
        }
    }
    // THEN
    assert_eq!(
        held,
        [(3, Held::DeadRanges { id: 3 }), (5, Held::DeadRanges { id: 5 }), (7, Held::Nothing)]
    );
}

#[tokio::test]
async fn an_identity_that_was_restarted_stops_retention() {
    // GIVEN a ledger that knows ids which will be drawn again
    let mut outbox = Outbox::create().await;
    outbox.insert(5).await;
    outbox.settle("a", "{[1,6)}").await;
    outbox.retain().await;
    outbox.run("ALTER TABLE outbox.message ALTER id RESTART").await;
    outbox.insert(2).await;
    // WHEN
    let round = outbox.retain().await;
    // THEN
    let held = Held::IdentityWentBack { last_id: 2, target: Some("a".to_owned()) };
    assert_eq!((round.deleted, round.held), (0, held));
    assert_eq!(outbox.messages().await, [1, 2]);
}

#[tokio::test]
async fn a_round_scans_a_range_of_the_primary_key() {
    // GIVEN a table that was never analyzed, and one that was analyzed when it was tiny
    let outbox = Outbox::create().await;
    outbox.insert(10).await;
    outbox.run("ANALYZE outbox.message").await;
    outbox.insert(50_000).await;
    outbox.settle("a", "{[1,50011)}").await;
    outbox.dead_range("a", "{[100000,100001)}").await;
    outbox.retry("a", 100).await;
    let scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'outbox.message'::regclass";
    let deletions = "SELECT count(*) FROM pg_stat_user_tables
         WHERE relid = 'outbox.message'::regclass AND n_tup_del > 0";
    let before = outbox.count(scans).await;
    // WHEN
    let mut keeper = outbox.another().await;
    let round = super::outbox::retain(&mut keeper, &keep_nothing()).await;
    assert_eq!((round.deleted, round.kept), (9_999, 1));
    drop(keeper);
    // THEN, once its statistics have arrived
    until("the statistics", async || (outbox.count(deletions).await == 1).then_some(())).await;
    assert_eq!(outbox.count(scans).await, before);
}

#[tokio::test]
async fn rows_of_few_dead_ranges_are_put_together() {
    // GIVEN 2,500 marks of target a that proved a range dead each, a few of b, and full rows
    let mut outbox = Outbox::create().await;
    outbox.settle("a", "{}").await;
    outbox.settle("b", "{}").await;
    outbox
        .run(
            "INSERT INTO outbox.hole (target, ranges, dead_at)
             SELECT 'a', int8multirange(int8range(2 * n, 2 * n + 1)), now() FROM generate_series(1, 2500) AS n;
             INSERT INTO outbox.hole (target, ranges, dead_at)
             SELECT 'b', int8multirange(int8range(2 * n, 2 * n + 1)), now() FROM generate_series(1, 9) AS n;
             INSERT INTO outbox.hole (target, ranges)
             SELECT 'a', int8multirange(int8range(2 * n, 2 * n + 1)) FROM generate_series(9001, 9200) AS n;
             CREATE TABLE before AS SELECT target, range FROM outbox.hole, unnest(ranges) AS range",
        )
        .await;
    // WHEN
    outbox.retain().await;
    // THEN a has three rows, b what it had, the open ones are as they were
    let rows = "SELECT count(*) FROM outbox.hole WHERE dead_at IS NOT NULL AND target = ";
    assert_eq!(outbox.count(&format!("{rows} 'a'")).await, 3);
    assert_eq!(outbox.count(&format!("{rows} 'b'")).await, 9);
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.hole WHERE dead_at IS NULL").await, 200);
    // AND not one range is another
    let changed = "SELECT count(*) FROM (
            (TABLE before EXCEPT SELECT target, range FROM outbox.hole, unnest(ranges) AS range)
            UNION ALL
            (SELECT target, range FROM outbox.hole, unnest(ranges) AS range EXCEPT TABLE before)
        ) AS changed";
    assert_eq!(outbox.count(changed).await, 0);
}

#[tokio::test]
async fn the_rights_of_the_relay_suffice() {
    // GIVEN a session with exactly those, and something for every statement of the keeper to do
    let mut outbox = Outbox::create().await;
    outbox.insert(200).await;
    outbox.settle("a", "{[1,151)}").await;
    outbox.retry("a", 100).await;
    for id in 120..=240 {
        outbox.dead_range("a", &format!("{{[{id},{})}}", id + 1)).await;
    }
    outbox.settled_ago("a", 140, 9).await;
    let role = outbox.database.create_relay().await;
    outbox.session =
        crate::support::session::Session::connect(&outbox.database.url_as(&role)).await;
    // WHEN, THEN
    let round = outbox.retain_with(&keep_hours(5)).await;
    assert_eq!((round.floor, round.deleted, round.kept, round.late), (140, 118, 21, 20));
    assert_eq!(outbox.sweep().await, 61);
    assert_eq!(outbox.release().await, 0);
    let watermarks = outbox.ids("outbox.watermark").await;
    assert_eq!(watermarks, [151]);
}
