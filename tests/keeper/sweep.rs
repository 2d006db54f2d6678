//! What the sweep finds: rows that were wrongly given up (I1), each of them once.

use outbox_relay::keeper::sweep::{self, Position};

use super::outbox::Outbox;

#[tokio::test]
async fn an_ordinary_outbox_has_nothing_to_find() {
    // GIVEN dead ids, a kept row, a floor
    let mut outbox = Outbox::create().await;
    outbox.insert(3).await;
    outbox.roll_back(3).await;
    outbox.insert(3).await;
    outbox.settle("a", "{[1,8)}").await;
    outbox.dead_range("a", "{[4,7)}").await;
    outbox.retry("a", 2).await;
    outbox.retain().await;
    assert_eq!(outbox.messages().await, [2, 8, 9]);
    // WHEN, THEN
    assert_eq!(outbox.sweep().await, 0);
    assert_eq!(outbox.late_rows().await, 0);
}

#[tokio::test]
async fn a_row_in_a_dead_range_is_handed_over_once() {
    // GIVEN two rows that target a gave up; b has read them
    let mut outbox = Outbox::create().await;
    outbox.insert(9).await;
    outbox.settle("a", "{[1,10)}").await;
    outbox.settle("b", "{[1,3)}").await;
    outbox.dead_range("a", "{[5,6)}").await;
    outbox.dead_range("a", "{[2,3),[8,9),[20,30)}").await;
    // WHEN
    let first = outbox.sweep().await;
    // THEN
    assert_eq!(first, 3);
    assert_eq!(outbox.late("a").await, [2, 5, 8]);
    assert!(outbox.late("b").await.is_empty());
    assert_eq!(outbox.late_rows().await, 3);
    // AND after its delivery it is not found again: the ids are no longer dead
    outbox.run("DELETE FROM outbox.retry").await;
    assert_eq!(outbox.sweep().await, 0);
    let text = "SELECT string_agg(ranges::text, ' ') FROM outbox.hole";
    let left: String = outbox.session.query_one(text, &[]).await.unwrap().get(0);
    assert_eq!(left, "{[20,30)}");
}

#[tokio::test]
async fn a_row_below_the_floor_goes_to_every_target_that_has_settled_its_id() {
    // GIVEN a floor of 5, and the owner inserts id 3 again; c was rebuilt and will read it by itself
    let mut outbox = Outbox::create().await;
    outbox.insert(5).await;
    for target in ["a", "b", "c"] {
        outbox.settle(target, "{[1,5)}").await;
    }
    outbox.retain().await;
    assert_eq!(outbox.floor().await, 5);
    outbox.run("UPDATE outbox.ledger SET settled = '{[1,3)}' WHERE target = 'c'").await;
    outbox
        .run("INSERT INTO outbox.message (id, topic) OVERRIDING SYSTEM VALUE VALUES (3, 'by hand')")
        .await;
    // WHEN
    let late = outbox.sweep().await;
    // THEN
    assert_eq!(late, 2);
    assert_eq!((outbox.late("a").await, outbox.late("b").await), (vec![3], vec![3]));
    assert!(outbox.late("c").await.is_empty());
    assert_eq!(outbox.sweep().await, 0);
    // AND it goes when all of them have delivered it
    outbox.run("DELETE FROM outbox.retry").await;
    assert_eq!(outbox.release().await, 0);
    outbox.settle("c", "{[3,5)}").await;
    assert_eq!(outbox.release().await, 1);
    assert_eq!(outbox.messages().await, [5]);
}

#[tokio::test]
async fn nobody_is_owed_a_row_without_a_ledger() {
    // GIVEN
    let mut outbox = Outbox::create().await;
    outbox.insert(2).await;
    outbox.run("UPDATE outbox.meta SET floor = 3").await;
    // WHEN, THEN
    assert_eq!(outbox.sweep().await, 0);
    assert!(outbox.ids("outbox.kept").await.is_empty());
}

#[tokio::test]
async fn a_pass_takes_bounded_pieces() {
    // GIVEN more dead ranges than one piece looks at, many to a row, the last with a late row
    let mut outbox = Outbox::create().await;
    outbox.insert(1).await;
    outbox.settle("a", "{[1,2)}").await;
    outbox
        .run(
            "INSERT INTO outbox.hole (target, ranges, dead_at)
             SELECT 'a', range_agg(int8range(2 * n, 2 * n + 1)), now()
             FROM generate_series(1000, 110999) AS n GROUP BY n / 1000",
        )
        .await;
    outbox.dead_range("a", "{[1,2)}").await;
    // WHEN
    let (mut pieces, mut position) = (Vec::new(), Some(Position::default()));
    while let Some(at) = position {
        let piece = sweep::piece(&mut outbox.session, &outbox.schema, at).await.unwrap();
        pieces.push((matches!(at, Position::DeadRanges { .. }), piece.late));
        position = piece.next;
    }
    // THEN
    assert_eq!(pieces, [(true, 0), (true, 0), (true, 1), (false, 0)]);
}

#[tokio::test]
async fn many_late_rows_are_taken_over_piece_by_piece() {
    // GIVEN 50,000 rows in one dead range
    let mut outbox = Outbox::create().await;
    outbox.insert(50_000).await;
    outbox.settle("a", "{[1,50001)}").await;
    outbox.dead_range("a", "{[1,60000)}").await;
    // WHEN
    let first =
        sweep::piece(&mut outbox.session, &outbox.schema, Position::default()).await.unwrap();
    // THEN
    assert_eq!((first.late, first.lowest), (20_000, Some(1)));
    assert_eq!(outbox.sweep().await, 30_000);
    assert_eq!(outbox.late("a").await.len(), 50_000);
}
