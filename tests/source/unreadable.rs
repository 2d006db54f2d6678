//! A row that cannot be read is one row: those before and behind it come as ever.

use outbox_relay::message::Message;

use super::consumer::{Consumer, limits};
use crate::support::database::Database;
use crate::support::session::Session;

/// Reads until so many rows have come.
async fn messages(consumer: &mut Consumer, count: usize) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    while messages.len() < count {
        messages.extend(consumer.batch().await.rows.into_iter().map(|row| row.message));
    }
    messages
}

/// The ids of those that cannot be read.
fn unreadable(messages: &[Message]) -> Vec<i64> {
    let unreadable = messages.iter().filter(|message| message.unreadable_reason().is_some());
    unreadable.map(Message::id).collect()
}

fn ids(messages: &[Message]) -> Vec<i64> {
    messages.iter().map(Message::id).collect()
}

/// Takes the stored payload of the message with this id away, as a damaged disk would.
pub(crate) async fn damage(session: &Session, table: &str, id: i64) {
    // What a table has outside of its rows is written in the order of the rows.
    session
        .run(&format!(
            "SET allow_system_table_mods = on;
             DO $$ DECLARE toast oid; BEGIN
                 SELECT reltoastrelid INTO toast FROM pg_class WHERE oid = '{table}'::regclass;
                 UPDATE pg_class SET relkind = 'r' WHERE oid = toast;
                 EXECUTE format('DELETE FROM %1$s WHERE chunk_id = (
                     SELECT DISTINCT chunk_id FROM %1$s ORDER BY chunk_id OFFSET %2$s LIMIT 1)',
                     toast::regclass, (SELECT count(*) FROM {table}
                                       WHERE id < {id} AND octet_length(payload) > 2000));
                 UPDATE pg_class SET relkind = 't' WHERE oid = toast;
             END $$"
        ))
        .await;
    session.run(&format!("VACUUM {table}")).await;
}

#[tokio::test]
async fn invalid_text_in_an_sql_ascii_database_stops_one_row() {
    // GIVEN rows of which three have a byte that is not UTF-8: in the topic, the key, the headers
    let database = Database::create_encoded("SQL_ASCII").await;
    let session = database.connect().await;
    session
        .run(
            r#"INSERT INTO outbox.message (topic, key, headers)
               SELECT 't' || CASE WHEN n = 7 THEN bad ELSE '' END,
                      'k' || CASE WHEN n = 8 THEN bad ELSE '' END,
                      ('{"h": "' || CASE WHEN n = 500 THEN bad ELSE '' END || '"}')::jsonb
               FROM generate_series(1, 1000) AS n, convert_from('\xff', 'SQL_ASCII') AS bad"#,
        )
        .await;
    // WHEN they are read
    let mut consumer = Consumer::start(&database, limits()).await;
    let messages = messages(&mut consumer, 1000).await;
    // THEN all of them come in order, and the three say what is wrong and keep what can be read
    assert_eq!(ids(&messages), (1..=1000).collect::<Vec<i64>>());
    assert_eq!(unreadable(&messages), [7, 8, 500]);
    let of = |id: usize| (messages[id - 1].topic(), messages[id - 1].key());
    assert_eq!((of(7), of(8), of(500)), (("", Some("k")), ("t", None), ("t", Some("k"))));
    let reason = messages[6].unreadable_reason().expect("it cannot be read");
    assert!(reason.contains("SQLSTATE 22021"), "{reason}");
}

#[tokio::test]
async fn damaged_payloads_stop_one_row_whether_they_are_read_at_once_or_later() {
    // GIVEN payloads outside of their rows, two of them damaged: one that is read at once, and one
    // that is large enough to be read by its id
    let database = Database::create().await;
    let session = database.connect().await;
    session.run("ALTER TABLE outbox.message ALTER payload SET STORAGE EXTERNAL").await;
    session
        .run(
            "INSERT INTO outbox.message (topic, key, payload)
             SELECT 't', 'k' || n, decode(repeat('ab', CASE WHEN n > 10 THEN 9000 ELSE 3000 END), 'hex')
             FROM generate_series(1, 20) AS n",
        )
        .await;
    damage(&session, "outbox.message", 15).await;
    damage(&session, "outbox.message", 4).await;
    // WHEN / THEN
    let mut consumer = Consumer::start(&database, limits()).await;
    let messages = messages(&mut consumer, 20).await;
    assert_eq!(ids(&messages), (1..=20).collect::<Vec<i64>>());
    assert_eq!(unreadable(&messages), [4, 15]);
    assert_eq!(messages[3].key(), Some("k4"), "its key can be read, and goes on holding its rows");
    let sizes = messages.iter().filter_map(|message| message.payload()).map(<[u8]>::len);
    assert_eq!(sizes.sum::<usize>(), 9 * 3000 + 9 * 9000);
}

#[tokio::test]
async fn a_row_of_retry_that_cannot_be_read_leaves_the_others_to_be_read() {
    // GIVEN rows in `retry`, one of whose messages has a byte that is not UTF-8
    let database = Database::create_encoded("SQL_ASCII").await;
    let session = database.connect().await;
    session
        .run(
            "INSERT INTO outbox.message (topic, key)
             SELECT 't' || CASE WHEN n = 2 THEN bad ELSE '' END, 'k' || n
             FROM generate_series(1, 3) AS n, convert_from('\\xff', 'SQL_ASCII') AS bad;
             INSERT INTO outbox.retry (target, id, key, holds, attempts, next_at, class)
             SELECT 'orders', n, 'k' || n, true, 1, now(), 'refused' FROM generate_series(1, 3) AS n",
        )
        .await;
    // WHEN what is due is read
    let mut consumer = Consumer::start(&database, limits()).await;
    let mut rows = Vec::new();
    while rows.len() < 3 {
        rows.extend(consumer.retry().await.rows);
    }
    // THEN
    rows.sort_by_key(|row| row.id);
    let keys: Vec<_> = rows.iter().map(|row| row.key.as_deref()).collect();
    assert_eq!(keys, [Some("k1"), Some("k2"), Some("k3")]);
    let messages: Vec<Message> = rows.into_iter().filter_map(|row| row.message).collect();
    assert_eq!((ids(&messages), unreadable(&messages)), (vec![1, 2, 3], vec![2]));
}
