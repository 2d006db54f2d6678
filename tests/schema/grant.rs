//! Who may do what: a writer only writes, the relay owns nothing, a stranger sees nothing.

use tokio_postgres::error::SqlState;

use super::refusal;
use crate::support::database::Database;
use crate::support::session::Session;

async fn assert_forbidden(session: &Session, statements: &[&str]) {
    for statement in statements {
        let refused = refusal(session.batch_execute(statement).await);
        assert_eq!(refused.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{statement}: {refused}");
    }
}

#[tokio::test]
async fn a_writer_inserts_and_publishes() {
    // GIVEN
    let database = Database::create().await;
    let writer = Session::connect(&database.url_as(&database.create_writer().await)).await;

    // WHEN every default, CHECK and trigger runs with the writer's rights
    writer
        .run(
            "INSERT INTO outbox.message (message_id, topic, key, type, headers, payload)
             VALUES (outbox.uuidv7(), 't', 'k', 'y', '{\"a\": 1}', 'x');
             INSERT INTO outbox.message (topic) VALUES ('t');
             SELECT outbox.publish('t', 'k', 'x'::bytea, '{\"a\": 1}', 'y');
             SELECT outbox.publish('t', 'k', 'x'::text);
             SELECT outbox.publish('t', 'k', '{}'::jsonb);",
        )
        .await;

    // THEN
    let owner = database.connect().await;
    assert_eq!(owner.count("SELECT count(*) FROM outbox.message").await, 5);
}

#[tokio::test]
async fn a_writer_does_nothing_else() {
    let database = Database::create().await;
    let writer = Session::connect(&database.url_as(&database.create_writer().await)).await;
    assert_forbidden(
        &writer,
        &[
            "INSERT INTO outbox.message (id, topic) OVERRIDING SYSTEM VALUE VALUES (7, 't')",
            "INSERT INTO outbox.message (topic, created_at) VALUES ('t', now())",
            "INSERT INTO outbox.message (topic) VALUES ('t') RETURNING message_id",
            "SELECT id FROM outbox.message",
            "UPDATE outbox.message SET topic = 'u'",
            "DELETE FROM outbox.message",
            "SET outbox_relay.keeper = 'on'; DELETE FROM outbox.message",
            "TRUNCATE outbox.message",
            "SELECT nextval('outbox.message_id_seq')",
            "SELECT setval('outbox.message_id_seq', 1)",
            "SELECT outbox_id FROM outbox.meta",
            "SELECT target FROM outbox.ledger",
            "SELECT state FROM outbox.message_state",
            "SELECT outbox.lock_key('@bell')",
            "SELECT outbox.install_doorbell('off')",
            "SELECT outbox.grant_writer('pg_monitor')",
            "CREATE TABLE outbox.mine ()",
            "ALTER TABLE outbox.message DISABLE TRIGGER ALL",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_relay_reads_removes_and_keeps_the_progress() {
    // GIVEN
    let database = Database::create().await;
    let owner = database.connect().await;
    owner.run("INSERT INTO outbox.message (topic) VALUES ('t')").await;
    let relay = Session::connect(&database.url_as(&database.create_relay().await)).await;

    // WHEN, THEN
    for table in ["ledger", "hole", "retry", "dead", "kept", "watermark", "route", "unrouted"] {
        for verb in ["SELECT", "INSERT", "UPDATE", "DELETE"] {
            let granted = relay
                .query_one(
                    "SELECT has_table_privilege($1, $2)",
                    &[&format!("outbox.{table}"), &verb],
                )
                .await
                .unwrap();
            assert!(granted.get::<_, bool>(0), "{verb} on {table}");
        }
    }
    relay
        .run(
            "BEGIN;
             SELECT message.id, last_value FROM outbox.message, outbox.message_id_seq;
             SELECT version FROM outbox.migration;
             SELECT state FROM outbox.message_state;
             SELECT outbox.lock_key('@keeper'), outbox.uuidv7();
             SELECT floor FROM outbox.meta FOR UPDATE;
             UPDATE outbox.meta SET floor = 2;
             INSERT INTO outbox.hole (target, ranges) VALUES ('a', '{[1,2)}');
             INSERT INTO outbox.decision (rows, command_id, command, filter, ids, decided_by)
                 VALUES (1, outbox.uuidv7(), 'dead discard', '{}', '{[1,2)}', 'ada');
             SET LOCAL outbox_relay.keeper = 'on';
             DELETE FROM outbox.message WHERE id = 1;
             COMMIT;",
        )
        .await;
    assert_eq!(owner.count("SELECT count(*) FROM outbox.message").await, 0);
}

#[tokio::test]
async fn a_relay_neither_writes_messages_nor_its_own_audit() {
    let database = Database::create().await;
    let relay = Session::connect(&database.url_as(&database.create_relay().await)).await;
    assert_forbidden(
        &relay,
        &[
            "INSERT INTO outbox.message (topic) VALUES ('t')",
            "SELECT outbox.publish('t', 'k', 'x')",
            "UPDATE outbox.message SET topic = 'u'",
            "TRUNCATE outbox.message",
            "SELECT nextval('outbox.message_id_seq')",
            "UPDATE outbox.meta SET outbox_id = gen_random_uuid()",
            "UPDATE outbox.decision SET decided_by = 'somebody else'",
            "DELETE FROM outbox.decision",
            "UPDATE outbox.migration SET checksum = ''",
            "TRUNCATE outbox.ledger",
            "DROP TABLE outbox.hole",
            "SELECT outbox.grant_relay('pg_monitor')",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_stranger_has_no_right_at_all() {
    let database = Database::create().await;
    let stranger =
        Session::connect(&database.url_as(&database.create_role("stranger").await)).await;
    assert_forbidden(
        &stranger,
        &[
            "SELECT outbox.uuidv7()",
            "SELECT id FROM outbox.message",
            "SELECT outbox.publish('t', 'k', 'x')",
        ],
    )
    .await;

    // AND not one function is PUBLIC's, even for a role that may look into the schema
    let owner = database.connect().await;
    let public = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace
                  AND has_function_privilege($1::text, oid, 'EXECUTE')";
    let role = format!("{}_stranger", database.name);
    let row = owner.query_one(public, &[&role]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn every_function_is_bound_to_its_names() {
    // A function whose names are looked up when it runs has a pinned search_path; the others have
    // a body that was parsed when they were created.
    let database = Database::create().await;
    let loose = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace
                 AND prosqlbody IS NULL
                 AND NOT coalesce(proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)";
    assert_eq!(database.connect().await.count(loose).await, 0);
}

#[tokio::test]
async fn a_role_of_any_name_can_be_granted_to() {
    use outbox_relay::schema::{MigrateError, Options, Schema, migrate};

    // GIVEN names that would break out of their quotes, and one that folds to another
    let database = Database::create().await;
    let mut owner = database.connect().await;
    let odd = format!("{} We\"ird'; DROP SCHEMA outbox; --", database.name);
    let upper = format!("{}_APP", database.name);
    for role in [&odd, &upper] {
        owner.run(&format!("CREATE ROLE \"{}\"", role.replace('"', "\"\""))).await;
    }

    // WHEN
    let options = Options {
        grant_writer: vec![odd.clone(), upper.clone()],
        grant_relay: vec![odd.clone()],
        ..Options::default()
    };
    let report = migrate(&mut owner, &Schema::default(), &options).await.unwrap();

    // THEN
    assert_eq!(report.writers, [odd.clone(), upper.clone()]);
    for (role, right) in [(&odd, "DELETE"), (&odd, "SELECT")] {
        let text = "SELECT has_table_privilege($1::text, 'outbox.message', $2)";
        assert!(owner.query_one(text, &[role, &right]).await.unwrap().get::<_, bool>(0));
    }
    let text = "SELECT has_column_privilege($1::text, 'outbox.message', 'topic', 'INSERT')";
    assert!(owner.query_one(text, &[&upper]).await.unwrap().get::<_, bool>(0));

    // AND a role that does not exist is an error that names it
    let options = Options { grant_relay: vec!["nobody_here".to_owned()], ..Options::default() };
    let error = migrate(&mut owner, &Schema::default(), &options).await.unwrap_err();
    assert!(matches!(error, MigrateError::Database { .. }));
    assert_eq!(error.to_string(), "failed while granting rights to \"nobody_here\"");
}
