//! When ids were settled: written from the ledgers, thinned only towards keeping longer.

use super::outbox::{Outbox, keep_hours};

async fn watermarks(outbox: &Outbox, target: &str) -> Vec<i64> {
    outbox.ids(&format!("outbox.watermark WHERE target = '{target}'")).await
}

#[tokio::test]
async fn a_watermark_says_how_far_the_contiguous_part_of_a_ledger_reaches() {
    // GIVEN a target with a gap, one with an open hole, one without anything
    let mut outbox = Outbox::create().await;
    outbox.insert(9).await;
    outbox.settle("gap", "{[1,4),[6,8)}").await;
    outbox.settle("hole", "{[1,9)}").await;
    outbox.open_hole("hole", "{[6,7)}").await;
    outbox.settle("new", "{}").await;
    // WHEN
    let round = outbox.retain_with(&keep_hours(1)).await;
    // THEN nothing is old enough yet
    assert_eq!((round.floor, round.deleted), (1, 0));
    assert_eq!(watermarks(&outbox, "gap").await, [4]);
    assert_eq!(watermarks(&outbox, "hole").await, [6]);
    assert!(watermarks(&outbox, "new").await.is_empty());

    // WHEN it is asked again at once, with more settled
    outbox.settle("gap", "{[4,6)}").await;
    outbox.retain_with(&keep_hours(1)).await;
    // THEN there is none yet: 500 a `keep` are enough
    assert_eq!(watermarks(&outbox, "gap").await, [4]);
    // AND later there is
    outbox.run("UPDATE outbox.watermark SET at = at - interval '8 s'").await;
    outbox.retain_with(&keep_hours(1)).await;
    assert_eq!(watermarks(&outbox, "gap").await, [4, 8]);
}

#[tokio::test]
async fn watermarks_that_the_floor_has_reached_or_that_others_replace_go() {
    // GIVEN target b holds the floor at 4; a has watermarks below, above, old and young
    let mut outbox = Outbox::create().await;
    outbox.insert(9).await;
    outbox.settle("a", "{[1,10)}").await;
    outbox.settle("b", "{[1,4)}").await;
    for (id, hours) in [(2, 9), (5, 8), (7, 7), (8, 1), (10, 0)] {
        outbox.settled_ago("a", id, hours).await;
    }
    outbox.settled_ago("b", 4, 9).await;
    // WHEN
    let round = outbox.retain_with(&keep_hours(5)).await;
    // THEN
    assert_eq!(round.floor, 4);
    assert_eq!(watermarks(&outbox, "a").await, [7, 8, 10]);
    assert!(watermarks(&outbox, "b").await.is_empty());
}

#[tokio::test]
async fn more_than_a_thousand_are_thinned_and_nothing_looks_older_for_it() {
    // GIVEN 1,201 watermarks, a minute apart, all younger than `keep`
    let mut outbox = Outbox::create().await;
    outbox.insert(1_201).await;
    outbox.settle("a", "{[1,1202)}").await;
    outbox
        .run("INSERT INTO outbox.watermark
              SELECT 'a', n + 1, now() - (1201 - n) * interval '1 min' FROM generate_series(1, 1201) AS n;
              CREATE TABLE before AS TABLE outbox.watermark")
        .await;
    // WHEN
    outbox.retain_with(&keep_hours(24)).await;
    // THEN at most a thousand are left
    assert_eq!(watermarks(&outbox, "a").await.len(), 601);
    // AND each row's settling is dated as before or later, never earlier
    let older = "SELECT count(*) FROM outbox.message, LATERAL (
            SELECT (SELECT min(at) FROM before WHERE before.id > message.id) AS then,
                   (SELECT min(at) FROM outbox.watermark AS now WHERE now.id > message.id) AS now
        ) AS settled WHERE settled.now < settled.then";
    assert_eq!(outbox.count(older).await, 0);
}
