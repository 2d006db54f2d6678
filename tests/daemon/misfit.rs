//! A database that this relay must not work on: exit 78 with the remedy, before anything is done.

use crate::support::database::Database;
use crate::support::relay::command;
use crate::support::stage::Stage;

async fn refused(change: &str, named: &str) {
    let stage = Stage::both(Database::create().await).await;
    let session = stage.session().await;
    session.run(change).await;
    let output = command(&stage.config, &["run"]).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains(named) && text.contains("hint:"), "{text}");
    assert_eq!(session.count("SELECT count(*) FROM outbox.ledger").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_newer_than_the_relay_is_refused() {
    let newer = "INSERT INTO outbox.migration (version, name, checksum) VALUES (999, 'future', '')";
    refused(newer, "has version 999").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_older_than_the_relay_is_refused() {
    let older = "DELETE FROM outbox.migration
                 WHERE version = (SELECT max(version) FROM outbox.migration)";
    refused(older, "outbox-relay migrate").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_a_subscription_fills_is_refused() {
    let subscribed = "
        CREATE SUBSCRIPTION s CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false);
        INSERT INTO pg_subscription_rel SELECT oid, 'outbox.message'::regclass, 'r' FROM pg_subscription
        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    refused(subscribed, "filled by logical replication").await;
}
