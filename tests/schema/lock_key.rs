//! `outbox.lock_key`: the same name is the same lock for everybody, another name or outbox another.

use crate::support::database::Database;
use crate::support::session::Session;

async fn key(session: &Session, name: &str) -> (i32, i32) {
    let text = "SELECT k1, k2 FROM outbox.lock_key($1)";
    let row = session.query_one(text, &[&name]).await.expect("every name has a key");
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn a_key_belongs_to_a_name_of_one_outbox() {
    // GIVEN
    let database = Database::create().await;
    let (one, two) = (database.connect().await, database.connect().await);
    let elsewhere = Database::create().await.connect().await;

    // WHEN, THEN
    assert_eq!(key(&one, "orders").await, key(&two, "orders").await);
    assert_ne!(key(&one, "orders").await, key(&one, "order").await);
    assert_ne!(key(&one, "orders").await, key(&elsewhere, "orders").await);
}
