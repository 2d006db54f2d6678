//! Rows of the outbox are written once, and only the keeper removes them.

use tokio_postgres::error::SqlState;

use super::refusal;
use crate::support::database::Database;
use crate::support::session::Session;

const INSERT: &str = "INSERT INTO outbox.message (topic, payload) VALUES ('t', 'x')";
const COUNT: &str = "SELECT count(*) FROM outbox.message";

async fn with_one_row() -> Session {
    let session = Database::create().await.connect().await;
    session.run(INSERT).await;
    session
}

#[tokio::test]
async fn an_update_is_refused_and_says_why() {
    // GIVEN
    let session = with_one_row().await;
    for statement in [
        "UPDATE outbox.message SET topic = 'u'",
        // No row is touched: the mistake is in the statement.
        "UPDATE outbox.message SET topic = 'u' WHERE id = 0",
        "INSERT INTO outbox.message (topic) VALUES ('t') ON CONFLICT (id) DO UPDATE SET topic = 'u'",
        "MERGE INTO outbox.message USING (SELECT 1 AS id) AS s ON message.id = s.id
             WHEN MATCHED THEN UPDATE SET topic = 'u'",
    ] {
        // WHEN even the owner tries
        let refused = refusal(session.batch_execute(statement).await);

        // THEN
        assert_eq!(refused.code(), &SqlState::RESTRICT_VIOLATION, "{statement}");
        assert_eq!(refused.message(), "outbox.message refuses UPDATE: its rows are immutable");
        assert!(refused.detail().unwrap().contains("may have published the row already"));
        assert!(refused.hint().unwrap().contains("Insert another message"));
    }
    assert_eq!(session.count("SELECT count(*) FROM outbox.message WHERE topic = 't'").await, 1);
}

#[tokio::test]
async fn an_insert_followed_by_an_update_in_one_transaction_is_refused() {
    let mut session = with_one_row().await;
    let transaction = session.transaction().await.unwrap();
    transaction.batch_execute(INSERT).await.unwrap();
    let refused =
        refusal(transaction.batch_execute("UPDATE outbox.message SET payload = 'y'").await);
    assert_eq!(refused.code(), &SqlState::RESTRICT_VIOLATION);
}

#[tokio::test]
async fn a_delete_is_refused_and_names_the_remedy() {
    let session = with_one_row().await;
    for setting in ["", "SET outbox_relay.keeper = 'off';", "SET outbox_relay.keeper = '';"] {
        session.run(setting).await;
        let refused = refusal(session.batch_execute("DELETE FROM outbox.message").await);
        assert_eq!(refused.code(), &SqlState::RESTRICT_VIOLATION);
        assert_eq!(
            refused.message(),
            "outbox.message refuses DELETE: only the relay removes messages"
        );
        assert!(refused.detail().unwrap().contains("is a message that is never sent"));
        assert!(refused.hint().unwrap().contains("`outbox-relay prune`"));
    }
    assert_eq!(session.count(COUNT).await, 1);
}

#[tokio::test]
async fn the_keeper_deletes_and_only_in_the_transaction_that_said_so() {
    // GIVEN
    let mut session = with_one_row().await;
    session.run(INSERT).await;

    // WHEN
    let transaction = session.transaction().await.unwrap();
    transaction.batch_execute("SET LOCAL outbox_relay.keeper = 'on'").await.unwrap();
    let deleted = transaction.execute("DELETE FROM outbox.message WHERE id = 1", &[]).await;
    transaction.commit().await.unwrap();

    // THEN
    assert_eq!(deleted.unwrap(), 1);
    refusal(session.batch_execute("DELETE FROM outbox.message").await);
    assert_eq!(session.count(COUNT).await, 1);
}

#[tokio::test]
async fn a_truncate_is_refused_to_the_keeper_as_well() {
    let session = with_one_row().await;
    for statement in [
        "TRUNCATE outbox.message",
        "TRUNCATE outbox.message CASCADE",
        "TRUNCATE outbox.message RESTART IDENTITY",
        "BEGIN; SET LOCAL outbox_relay.keeper = 'on'; TRUNCATE outbox.message",
    ] {
        let refused = refusal(session.batch_execute(statement).await);
        session.run("ROLLBACK").await;
        assert_eq!(
            refused.message(),
            "outbox.message refuses TRUNCATE: only the relay removes messages"
        );
        assert!(refused.hint().unwrap().contains("`outbox-relay prune`"));
    }
    assert_eq!(session.count(COUNT).await, 1);
}

#[tokio::test]
async fn an_own_id_is_refused_unless_the_owner_overrides() {
    // GIVEN
    let session = with_one_row().await;

    // WHEN
    let statement = "INSERT INTO outbox.message (id, topic) VALUES (7, 't')";
    let refused = refusal(session.batch_execute(statement).await);

    // THEN
    assert_eq!(refused.message(), "cannot insert a non-DEFAULT value into column \"id\"");
    assert!(refused.detail().unwrap().contains("GENERATED ALWAYS"));

    // AND the owner's override goes through: it costs order, never the message
    session
        .run("INSERT INTO outbox.message (id, topic) OVERRIDING SYSTEM VALUE VALUES (7, 't')")
        .await;
}

#[tokio::test]
async fn a_guard_names_the_configured_schema() {
    use outbox_relay::schema::{Options, Schema, migrate};

    let database = Database::create_empty_on(&crate::support::services::Services::postgres()).await;
    let mut session = database.connect().await;
    let schema: Schema = "mail_box".parse().unwrap();
    migrate(&mut session, &schema, &Options::default()).await.unwrap();

    let refused = refusal(session.batch_execute("TRUNCATE mail_box.message").await);
    assert!(refused.message().starts_with("mail_box.message refuses TRUNCATE"));
}
