//! Installing the inbox.

use outbox_inbox::schema::{Schema, newest_version, print};

use crate::support::database::Database;
use crate::support::services::Services;

#[tokio::test]
async fn the_inbox_is_installed_once_on_every_server() {
    for server in [Services::postgres(), Services::postgres_18()] {
        // GIVEN an empty database
        let database = Database::create_empty_on(&server).await;
        let schema: Schema = "orders_box".parse().unwrap();
        // WHEN it is migrated twice
        let (first, second) = (database.migrate(&schema).await, database.migrate(&schema).await);
        // THEN the second run had nothing to do
        assert_eq!(first.applied.len(), usize::try_from(newest_version()).unwrap());
        assert!(second.applied.is_empty());
        assert_eq!(second.version, newest_version());
    }
}

#[tokio::test]
async fn the_printed_script_is_the_migration() {
    // GIVEN a database that got the script by hand
    let database = Database::create_empty_on(&Services::postgres()).await;
    let script = print(&Schema::default(), 0, outbox_inbox::schema::DEFAULT_LOCK_TIMEOUT);
    database.connect().await.run(&script).await;
    // WHEN it is migrated THEN nothing is applied again
    assert!(database.migrate(&Schema::default()).await.applied.is_empty());
}
