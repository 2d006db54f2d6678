//! The plans of a reader's statements, which live for days, stay index scans whatever the statistics.

use super::consumer::{Consumer, TARGET, limits};
use crate::support::database::Database;
use crate::support::patience::until;

#[tokio::test]
async fn statements_prepared_on_empty_tables_use_the_indexes_when_they_have_grown() {
    // GIVEN a reader that prepared its statements and ran them on tables that were empty and are never analysed
    let database = Database::create().await;
    let session = database.connect().await;
    for table in ["message", "retry", "dead"] {
        session.run(&format!("ALTER TABLE outbox.{table} SET (autovacuum_enabled = off)")).await;
    }
    // Building an index counts as a scan.
    let scanned_before = session.count(SEQUENTIAL_SCANS).await;
    let mut consumer = Consumer::start(&database, limits()).await;
    for id in 1..=20 {
        session.run("INSERT INTO outbox.message (topic) VALUES ('x')").await;
        assert_eq!(consumer.ids(1).await, [id]);
    }
    // WHEN the tables grow, rows of one key fill `retry`, and a hole is open
    session.run("BEGIN; INSERT INTO outbox.message (topic) VALUES ('x')").await;
    let writer = database.connect().await;
    writer
        .run(&format!(
            "INSERT INTO outbox.retry (id, target, key, holds, attempts, class)
             SELECT n, '{TARGET}', 'stuck', true, 0, 'held' FROM generate_series(1, 50000) n;
             UPDATE outbox.retry SET next_at = now() WHERE target = '{TARGET}' AND id = 1;
             INSERT INTO outbox.message (topic, key) SELECT 'x', 'k' || n % 100 FROM generate_series(1, 50000) n"
        ))
        .await;
    assert_eq!(consumer.ids(50_000).await.len(), 50_000);
    consumer.retry.send_replace(Vec::new());
    while consumer.retry().await.rows.is_empty() {}
    session.run("COMMIT").await;
    assert_eq!(consumer.ids(1).await, [21]);
    // THEN none of them was ever read but by an index, and no read went through more than it returned
    drop(consumer);
    until("the reader's session to end", async || {
        let readers = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND application_name = 'test reader'";
        (writer.count(readers).await == 0).then_some(())
    })
    .await;
    assert_eq!(writer.count(SEQUENTIAL_SCANS).await, scanned_before);
    let fetched = writer.count(ROWS_FETCHED).await;
    assert!(fetched < 200_000, "{fetched} rows fetched by an index to read 50,000");
}

const SEQUENTIAL_SCANS: &str = "
SELECT sum(seq_scan)::bigint FROM pg_stat_user_tables WHERE relname IN ('message', 'retry', 'dead')";

const ROWS_FETCHED: &str = "
SELECT sum(idx_tup_fetch)::bigint FROM pg_stat_user_tables WHERE relname IN ('message', 'retry')";
