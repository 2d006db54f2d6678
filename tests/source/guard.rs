//! What makes ids mean something else stops the reader with its remedy, instead of losing anything.

use outbox_relay::source::Start;

use super::consumer::{Consumer, limits, no_bell};
use crate::support::database::Database;

/// A reader that has read rows 1 to 3.
async fn reading() -> (Database, Consumer) {
    let database = Database::create().await;
    database
        .connect()
        .await
        .run("INSERT INTO outbox.message (topic) SELECT 'x' FROM generate_series(1, 3)")
        .await;
    let mut consumer = Consumer::start(&database, limits()).await;
    assert_eq!(consumer.ids(3).await, [1, 2, 3]);
    (database, consumer)
}

/// Runs `sql` as the owner under a reader, and checks that it stops and says `what` and `hint`.
async fn stops_at(sql: &str, what: &str, hint: &str) {
    let (database, consumer) = reading().await;
    database.connect().await.run(sql).await;
    let error = consumer.stopped().await;
    let (reason, remedy) = error.split_once("\nhint: ").expect("a reason and a hint");
    assert!(reason.contains(what), "{error}");
    assert!(remedy.contains(hint), "{error}");
}

#[tokio::test]
async fn a_restarted_identity_stops_the_reader() {
    let sql = "ALTER TABLE outbox.message ALTER COLUMN id RESTART WITH 1";
    stops_at(sql, "stands at 0", "ledger rebuild").await;
}

/// Its ids would be taken for those that were settled long ago.
#[tokio::test]
async fn a_restarted_identity_that_has_caught_up_stops_the_reader() {
    let sql = "ALTER TABLE outbox.message DISABLE TRIGGER ALL;
               TRUNCATE outbox.message RESTART IDENTITY;
               INSERT INTO outbox.message (topic) SELECT 'x' FROM generate_series(1, 10)";
    stops_at(sql, "restarted or altered", "ledger rebuild").await;
}

#[tokio::test]
async fn an_id_far_ahead_stops_the_reader() {
    let sql =
        "INSERT INTO outbox.message (id, topic) OVERRIDING SYSTEM VALUE VALUES (1000000, 'x')";
    stops_at(sql, "id 1000000 was read or settled", "ledger rebuild").await;
}

#[tokio::test]
async fn a_changed_cache_stops_the_reader() {
    let sql = "ALTER TABLE outbox.message ALTER COLUMN id SET CACHE 20";
    stops_at(sql, "CACHE 20", "SET CACHE 1").await;
}

#[tokio::test]
async fn a_replaced_table_stops_the_reader() {
    let sql = "ALTER TABLE outbox.message RENAME TO message_before;
               CREATE TABLE outbox.message (LIKE outbox.message_before INCLUDING ALL);
               GRANT SELECT ON outbox.message TO PUBLIC";
    stops_at(sql, "replaced", "ledger rebuild").await;
}

#[tokio::test]
async fn a_missing_table_stops_the_reader() {
    stops_at("ALTER TABLE outbox.message RENAME TO message_before", "message", "migrate").await;
}

#[tokio::test]
async fn a_policy_that_hides_rows_stops_the_reader() {
    let sql = "ALTER TABLE outbox.message ENABLE ROW LEVEL SECURITY;
               CREATE POLICY half ON outbox.message USING (id % 2 = 0)";
    stops_at(sql, "row-level security", "BYPASSRLS").await;
}

#[tokio::test]
async fn a_missing_right_stops_the_reader() {
    let sql =
        "DO $$ BEGIN EXECUTE (SELECT format('REVOKE SELECT ON outbox.message FROM %I', rolname)
               FROM pg_roles WHERE rolname = current_database() || '_relay'); END $$";
    stops_at(sql, "permission denied", "--grant-relay").await;
}

#[tokio::test]
async fn a_ledger_ahead_of_the_identity_stops_the_reader() {
    // GIVEN a ledger that has settled what was never drawn: the outbox was restored without it
    let database = Database::create().await;
    let url = database.url_as(&database.create_relay().await);
    let settled = "{[1,1000)}".parse().expect("a multirange");
    let start = Start { floor: 1, settled, ..Start::default() };
    let consumer = Consumer::start_as(&url, limits(), no_bell(), start).await;
    let error = consumer.stopped().await;
    assert!(error.contains("id 999 was read or settled"), "{error}");
    assert!(error.contains("ledger rebuild"), "{error}");
}
