//! The retry read: heads that are due, with the rows that wait behind them.

use outbox_relay::source::RetryRow;

use super::consumer::{Consumer, TARGET, limits};
use crate::support::database::Database;
use crate::support::session::Session;

/// `(id, key, holds, next_at)` each into `retry`, and into `message` by the same id.
///
/// In the order of an ordinary insert, which a reader under way takes them for: the lock of the
/// table, then the ids, then the rows.
async fn set_aside(session: &Session, rows: &[(i64, Option<&str>, bool, &str)]) {
    let draw = "BEGIN; LOCK TABLE outbox.message IN ROW EXCLUSIVE MODE;
                SELECT setval(pg_get_serial_sequence('outbox.message', 'id'), 1000)";
    session.run(draw).await;
    for (id, key, holds, next_at) in rows {
        let key = key.map_or("NULL".to_owned(), |key| format!("'{key}'"));
        session
            .run(&format!(
                "INSERT INTO outbox.retry (id, target, key, holds, attempts, class, next_at)
                 VALUES ({id}, '{TARGET}', {key}, {holds}, 2, 'refused', {next_at});
                 INSERT INTO outbox.message (id, topic, key) OVERRIDING SYSTEM VALUE VALUES ({id}, 'row {id}', {key})"
            ))
            .await;
    }
    session.run("COMMIT").await;
}

const DUE: &str = "now() - interval '1 s'";
const LATER: &str = "now() + interval '1 day'";

fn ids(rows: &[RetryRow]) -> Vec<i64> {
    rows.iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn heads_that_are_due_come_with_the_rows_behind_them() {
    // GIVEN a key whose head is due, one whose head is not, a row without a key, one that holds nobody
    let database = Database::create().await;
    let session = database.connect().await;
    set_aside(
        &session,
        &[
            (10, Some("due"), true, DUE),
            (20, Some("due"), true, "NULL"),
            (30, Some("due"), true, "NULL"),
            (11, Some("later"), true, LATER),
            (12, Some("later"), true, "NULL"),
            (13, None, true, "now() - interval '2 s'"),
            (14, Some("due"), false, "now() - interval '3 s'"),
            // An earlier row of its key is in `retry` and not due: it must wait, although it is due.
            (41, Some("behind"), true, DUE),
            (40, Some("behind"), true, LATER),
        ],
    )
    .await;
    // WHEN a reader begins
    let mut consumer = Consumer::start(&database, limits()).await;
    let batch = consumer.retry().await;
    // THEN it reads what is due without being asked, by time, followers behind their head
    assert_eq!(ids(&batch.rows), [14, 13, 10, 20, 30]);
    assert_eq!(
        batch.rows.iter().map(|row| row.head).collect::<Vec<_>>(),
        [true, true, true, false, false]
    );
    assert!(batch.next_due.is_some());
    let row = &batch.rows[2];
    assert_eq!(
        (row.key.as_deref(), row.holds, row.attempts, row.class.as_str()),
        (Some("due"), true, 2, "refused")
    );
    assert_eq!(row.message.as_ref().map(|message| message.topic()), Some("row 10"));
    // WHEN it is asked again, with what is in hand
    consumer.retry.send_replace(vec![14, 10]);
    // THEN the rest comes
    assert_eq!(ids(&consumer.retry().await.rows), [13]);
}

#[tokio::test]
async fn a_row_comes_when_its_time_comes() {
    // GIVEN a row that is due soon
    let database = Database::create().await;
    let session = database.connect().await;
    let mut consumer = Consumer::start(&database, limits()).await;
    assert!(consumer.retry().await.rows.is_empty());
    set_aside(&session, &[(1, Some("k"), true, "clock_timestamp() + interval '300 ms'")]).await;
    // WHEN the pipeline, which put it there, asks once
    consumer.retry.send_replace(Vec::new());
    let first = consumer.retry().await;
    // THEN it comes, now or by itself
    if first.rows.is_empty() {
        assert!(first.next_due.is_some());
        assert_eq!(ids(&consumer.retry().await.rows), [1]);
    }
}

#[tokio::test]
async fn a_row_is_read_from_its_dead_copy_or_is_gone() {
    // GIVEN rows of `retry` without a message: one has a dead copy with a large payload, one has nothing
    let database = Database::create().await;
    let session = database.connect().await;
    session
        .run(&format!(
            "INSERT INTO outbox.retry (id, target, key, holds, attempts, class, next_at)
             SELECT n, '{TARGET}', 'k' || n, false, 0, 'requeued', {DUE} FROM generate_series(1, 3) n;
             INSERT INTO outbox.dead (id, created_at, message_id, attempts, target, class, reason, topic, payload)
             SELECT n, now(), outbox.uuidv7(), 3, t, 'refused', 'said no', 'row ' || n, convert_to(repeat('x', n * 4000), 'UTF8')
             FROM generate_series(1, 2) n, (VALUES ('{TARGET}'), ('another')) v (t)"
        ))
        .await;
    // WHEN they are due
    let mut consumer = Consumer::start(&database, limits()).await;
    let mut rows = consumer.retry().await.rows;
    rows.sort_by_key(|row| row.id);
    // THEN the copies are read, whatever their size, and the third is gone
    assert_eq!(ids(&rows), [1, 2, 3]);
    let bytes = |n: usize| rows[n].message.as_ref().and_then(|m| m.payload()).map(<[u8]>::len);
    assert_eq!((bytes(0), bytes(1)), (Some(4000), Some(8000)));
    assert!(rows[2].message.is_none());
    consumer.spent_all().await;
}
