//! What stands in `retry` when a pipeline begins, in pieces.

use outbox_relay::ledger::aside::Aside;

use super::pen::Pen;
use crate::keeper::outbox::Outbox;

const DUE: &str = "outbox.retry WHERE target = 'lake' AND next_at <= clock_timestamp()";

#[tokio::test]
async fn every_head_is_made_due_and_every_row_counted_whatever_the_piece() {
    // GIVEN keys '' to 'k4' with two rows each, one whose head waits for a time, a row that holds nobody
    let outbox = Outbox::create().await;
    let pen = Pen::take(&outbox, "lake").await;
    let aside = Aside::prepare(pen.lease.session(), &outbox.schema).await.unwrap();
    let rows = "INSERT INTO outbox.retry (target, id, key, holds, attempts, class)
        SELECT 'lake', n, CASE WHEN n % 5 > 0 THEN 'k' || n % 5 ELSE '' END, true, 0, 'held'
        FROM generate_series(1, 10) AS n;
        INSERT INTO outbox.retry (target, id, key, holds, attempts, class) VALUES
            ('lake', 11, NULL, false, 0, 'held'), ('other', 1, 'k', true, 0, 'held');
        UPDATE outbox.retry SET next_at = 'infinity' WHERE target = 'lake' AND id = 3";
    for piece in [1, 2, 5, 100] {
        outbox.run("DELETE FROM outbox.retry").await;
        outbox.run(rows).await;
        // WHEN
        aside.promote(&pen.lease, "lake", piece).await.unwrap();
        // THEN the heads are due, and nothing else
        assert_eq!(outbox.ids(DUE).await, [1, 2, 4, 5], "pieces of {piece}");
        let counted = aside.count(&pen.lease, "lake", piece).await.unwrap();
        assert_eq!(counted, 11, "pieces of {piece}");
    }
    assert_eq!(outbox.ids("outbox.retry WHERE target = 'other' AND next_at IS NULL").await, [1]);
}
