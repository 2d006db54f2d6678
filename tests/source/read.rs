//! What a read shows is what was written.

use super::consumer::{Consumer, limits};
use crate::support::database::Database;

#[tokio::test]
async fn i2_every_field_comes_as_it_was_written() {
    // GIVEN rows with NULL, empty and full fields, and every byte value
    let database = Database::create().await;
    let session = database.connect().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    session
        .execute(
            r#"INSERT INTO outbox.message (topic, key, type, headers, payload) VALUES
               ('a', NULL, NULL, NULL, NULL),
               ('b', '', '', '{}', ''),
               ('ü.x', 'schlüssel', 'created', '{"n": 1.50, "s": "…", "z": null}', $1)"#,
            &[&every_byte],
        )
        .await
        .expect("rows can be written");
    // WHEN they are read
    let mut consumer = Consumer::start(&database, limits()).await;
    let mut rows = Vec::new();
    while rows.len() < 3 {
        rows.extend(consumer.batch().await.rows.into_iter().map(|row| row.message));
    }
    // THEN nothing is changed
    let fields = |n: usize| {
        let row: &outbox_relay::message::Message = &rows[n];
        (row.topic(), row.key(), row.kind(), row.headers(), row.payload())
    };
    assert_eq!(fields(0), ("a", None, None, None, None));
    assert_eq!(fields(1), ("b", Some(""), Some(""), Some("{}"), Some(&b""[..])));
    let headers = r#"{"n": 1.50, "s": "…", "z": null}"#;
    let last = ("ü.x", Some("schlüssel"), Some("created"), Some(headers), Some(&every_byte[..]));
    assert_eq!(fields(2), last);
    for message in &rows {
        let row = session
            .query_one(
                "SELECT message_id, (EXTRACT(EPOCH FROM created_at) * 1000000)::bigint
                 FROM outbox.message WHERE id = $1",
                &[&message.id()],
            )
            .await
            .expect("the row is there");
        assert_eq!(message.message_id(), row.get::<_, uuid::Uuid>(0));
        assert_eq!(message.created_at_us(), row.get::<_, i64>(1));
    }
}

#[tokio::test]
async fn a_backlog_comes_in_cut_reads_and_ends_caught_up() {
    // GIVEN more rows than fit one read
    let database = Database::create().await;
    let session = database.connect().await;
    session
        .run("INSERT INTO outbox.message (topic) SELECT 'x' FROM generate_series(1, 1005)")
        .await;
    // WHEN they are read
    let mut consumer = Consumer::start(
        &database,
        outbox_relay::config::SourceConfig { batch_rows_max: 100, ..limits() },
    )
    .await;
    let mut ids = Vec::new();
    loop {
        let batch = consumer.batch().await;
        assert!(batch.rows.len() <= 100);
        ids.extend(batch.rows.iter().map(|row| row.message.id()));
        if batch.caught_up {
            break;
        }
    }
    // THEN all are there, in order, and the last read says so
    assert_eq!(ids, (1..=1005).collect::<Vec<i64>>());
}

#[tokio::test]
async fn what_is_settled_is_not_read_again_and_gaps_are_read_first() {
    // GIVEN a ledger with a gap and an open hole
    let database = Database::create().await;
    let session = database.connect().await;
    session.run("INSERT INTO outbox.message (topic) SELECT 'x' FROM generate_series(1, 30)").await;
    let start = outbox_relay::source::Start {
        floor: 3,
        settled: "{[1,10),[15,21)}".parse().expect("a multirange"),
        open: "{[17,18)}".parse().expect("a multirange"),
    };
    // WHEN a reader begins there
    let url = database.url_as(&database.create_relay().await);
    let bell = super::consumer::no_bell();
    let mut consumer = Consumer::start_as(&url, limits(), bell, start).await;
    // THEN it reads the gap, the hole and what lies above
    let expected: Vec<i64> = (10..15).chain([17]).chain(21..=30).collect();
    assert_eq!(consumer.ids(expected.len()).await, expected);
}

#[tokio::test]
async fn a_read_carries_the_number_of_the_last_mark_before_it() {
    let database = Database::create().await;
    let session = database.connect().await;
    let mut consumer = Consumer::start(&database, limits()).await;
    for _ in 0..3 {
        let mark = consumer.mark();
        // Never a later one than has been committed, and the current one as soon as a read begins.
        loop {
            session.run("INSERT INTO outbox.message (topic) VALUES ('x')").await;
            let batch = consumer.batch().await;
            assert!(batch.as_of <= mark);
            if batch.as_of == mark {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_table_that_is_locked_or_rewritten_is_waited_for() {
    // GIVEN somebody who locks the table for longer than lock_timeout
    let database = Database::create().await;
    let session = database.connect().await;
    let mut consumer = Consumer::start(&database, limits()).await;
    session.run("INSERT INTO outbox.message (topic) VALUES ('x')").await;
    assert_eq!(consumer.ids(1).await, [1]);
    session.run("BEGIN; LOCK TABLE outbox.message").await;
    consumer.status(|status| status.busy.is_some()).await;
    session.run("INSERT INTO outbox.message (topic) VALUES ('x'); COMMIT").await;
    // THEN the reader goes on where it was, also after a rewrite
    assert_eq!(consumer.ids(1).await, [2]);
    consumer.status(|status| status.busy.is_none()).await;
    session.run("VACUUM FULL outbox.message").await;
    session.run("INSERT INTO outbox.message (topic) VALUES ('x')").await;
    assert_eq!(consumer.ids(1).await, [3]);
}
