//! What a mark writes of rows that no route takes.

use outbox_relay::ledger::{Mark, Noted};
use outbox_relay::range::RangeSet;

use crate::keeper::outbox::Outbox;
use crate::ledger::pen::Pen;

fn noted(topic: Option<&str>, kind: Option<&str>, open_from: Option<i64>, late: &str) -> Noted {
    Noted {
        topic: topic.map(str::to_owned),
        kind: kind.map(str::to_owned),
        first_id: 3,
        open_from,
        late: late.parse().unwrap(),
    }
}

async fn unrouted(outbox: &Outbox) -> Vec<i64> {
    outbox.ids("outbox.message_state WHERE state = 'unrouted'").await
}

#[tokio::test]
async fn a_mark_records_what_no_route_took_and_takes_out_what_was_sent() {
    // GIVEN ten messages of two topics, with and without a type, all settled by one mark
    let outbox = Outbox::create().await;
    outbox
        .run(
            "INSERT INTO outbox.message (topic, type)
             SELECT CASE WHEN n <= 6 THEN 'a' ELSE 'b' END, CASE WHEN n % 2 = 0 THEN 'T' END
             FROM generate_series(1, 10) AS n",
        )
        .await;
    let mut pen = Pen::take(&outbox, "lake").await;
    outbox
        .run("INSERT INTO outbox.route (target, hash, routes, taken) VALUES ('lake', 'h', '[]', '[]')")
        .await;
    let settled: RangeSet = std::iter::once(1..11).collect();
    let topics =
        vec![noted(Some("a"), None, Some(3), "{}"), noted(Some("b"), Some("T"), Some(3), "{}")];
    pen.write(Mark { settled, unrouted: topics, ..Mark::default() }).await;
    assert_eq!(unrouted(&outbox).await, [3, 5, 8, 10]);
    // WHEN an earlier one comes late, THEN it is added by its id
    let late = vec![noted(Some("a"), None, None, "{[1,2)}")];
    pen.write(Mark { unrouted: late, ..Mark::default() }).await;
    assert_eq!(unrouted(&outbox).await, [1, 3, 5, 8, 10]);
    // WHEN some are sent after all, THEN they are taken out, of their topic alone
    pen.write(Mark { sent_after_all: vec![5, 8, 9], ..Mark::default() }).await;
    assert_eq!(unrouted(&outbox).await, [1, 3, 10]);
    let b = "SELECT count(*) FROM outbox.unrouted WHERE topic = 'b' AND ids @> 5::bigint";
    assert_eq!(outbox.count(b).await, 1);
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.unrouted").await, 2);
}

#[tokio::test]
async fn all_other_topics_are_one_row_that_knows_what_was_taken() {
    // GIVEN routes with the characters that LIKE has a meaning for
    let outbox = Outbox::create().await;
    for topic in ["a_b", "axb", r"50%", "50", r"c\d", "other"] {
        let sql = "INSERT INTO outbox.message (topic, type) VALUES ($1, 'T'), ($1, NULL)";
        outbox.session.execute(sql, &[&topic]).await.unwrap();
    }
    let mut pen = Pen::take(&outbox, "lake").await;
    let taken = r#"[{"topic": "a\\_b", "type": null}, {"topic": "50\\%", "type": "T"}, {"topic": "c\\\\d", "type": null}]"#;
    let sql = "INSERT INTO outbox.route (target, hash, routes, taken) VALUES ('lake', 'h', '[]', $1::text::jsonb)";
    outbox.session.execute(sql, &[&taken]).await.unwrap();
    // WHEN they stand for all that no route took
    let settled: RangeSet = std::iter::once(1..13).collect();
    let others = vec![noted(None, None, Some(1), "{}")];
    pen.write(Mark { settled, unrouted: others, ..Mark::default() }).await;
    // THEN what the routes take is sent, and the others are not
    assert_eq!(unrouted(&outbox).await, [3, 4, 6, 7, 8, 11, 12]);
    // AND one that is sent after all is taken out
    pen.write(Mark { sent_after_all: vec![1, 3], ..Mark::default() }).await;
    assert_eq!(unrouted(&outbox).await, [4, 6, 7, 8, 11, 12]);
}
