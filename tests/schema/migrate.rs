//! `outbox-relay migrate`: idempotent, one at a time, and what it refuses.

use outbox_relay::schema::{
    Doorbell, MigrateError, Options, Schema, installed_version, migrate, newest_version,
};
use std::time::Duration;
use tokio::task::JoinSet;

use crate::support::database::Database;
use crate::support::services::Services;
use crate::support::session::Session;

async fn failure(session: &mut Session, options: &Options) -> MigrateError {
    match migrate(session, &Schema::default(), options).await {
        Ok(report) => panic!("must be refused: {report}"),
        Err(error) => error,
    }
}

/// Every table, index and function of the schema, with the transaction that last defined it.
async fn fingerprint(session: &Session, schema: &Schema) -> Vec<String> {
    let objects = session
        .query(
            "SELECT format('%s %s', pg_describe_object(classid, objid, 0), made_by)
             FROM pg_depend, LATERAL (
                 SELECT xmin FROM pg_class WHERE oid = objid AND classid = 'pg_class'::regclass
                 UNION ALL
                 SELECT xmin FROM pg_proc WHERE oid = objid AND classid = 'pg_proc'::regclass
             ) AS object (made_by)
             WHERE refclassid = 'pg_namespace'::regclass AND refobjid = quote_ident($1)::regnamespace
             ORDER BY 1",
            &[&schema.name()],
        )
        .await;
    objects.expect("the catalog can be read").iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    for server in [Services::postgres(), Services::postgres_18(), Services::postgres_two_phase()] {
        // GIVEN
        let schema = Schema::default();
        let database = Database::create_empty_on(&server).await;
        let mut session = database.connect().await;
        assert_eq!(installed_version(&session, &schema).await.unwrap(), None);
        let first = migrate(&mut session, &schema, &Options::default()).await.unwrap();
        assert_eq!(first.applied.len(), usize::try_from(newest_version()).unwrap());
        let before = fingerprint(&session, &schema).await;
        assert!(before.len() > 15, "{before:#?}");

        // WHEN a writer holds the table, so that any table lock would show
        let writer = database.connect().await;
        writer.run("BEGIN; INSERT INTO outbox.message (topic) VALUES ('t')").await;
        let second = migrate(&mut session, &schema, &Options::default()).await.unwrap();

        // THEN
        assert!(second.applied.is_empty());
        assert!(!second.doorbell.changed);
        assert_eq!(second.version, newest_version());
        assert_eq!(installed_version(&session, &schema).await.unwrap(), Some(newest_version()));
        assert_eq!(fingerprint(&session, &schema).await, before);
    }
}

#[tokio::test]
async fn several_at_once_apply_each_migration_once() {
    // GIVEN a database whose default would show each of them a snapshot from before its wait
    let database = Database::create_empty_on(&Services::postgres()).await;
    let alter = "SET default_transaction_isolation = 'serializable'";
    database.connect().await.run(&format!("ALTER DATABASE {} {alter}", database.name)).await;

    // WHEN
    let mut runners = JoinSet::new();
    for _ in 0..8 {
        let mut session = database.connect().await;
        runners.spawn(async move {
            let options = Options { lock_timeout: Duration::from_secs(60), ..Options::default() };
            migrate(&mut session, &Schema::default(), &options).await
        });
    }
    let mut applied = Vec::new();
    while let Some(report) = runners.join_next().await {
        applied.extend(report.unwrap().unwrap().applied.into_iter().map(|done| done.version));
    }

    // THEN
    applied.sort_unstable();
    assert_eq!(applied, (1..=newest_version()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_changed_checksum_is_refused() {
    let mut session = Database::create().await.connect().await;
    session.run("UPDATE outbox.migration SET checksum = repeat('0', 64) WHERE version = 2").await;

    let error = failure(&mut session, &Options::default()).await;

    assert!(matches!(error, MigrateError::Changed { version: 2, .. }));
    assert_eq!(error.to_string(), "outbox migration 2 (message) was applied with another checksum");
    assert!(error.hint().contains("never edited"));
}

#[tokio::test]
async fn a_database_that_is_newer_than_the_binary_is_refused() {
    let mut session = Database::create().await.connect().await;
    session.run("INSERT INTO outbox.migration VALUES (999, 'future', '')").await;

    let error = failure(&mut session, &Options::default()).await;

    let newest = newest_version();
    assert_eq!(
        error.to_string(),
        format!("outbox too new: the database has version 999, this program knows {newest}")
    );
    assert_eq!(installed_version(&session, &Schema::default()).await.unwrap(), Some(999));
}

#[tokio::test]
async fn a_record_that_is_missing_is_refused() {
    let mut session = Database::create().await.connect().await;
    session.run("DELETE FROM outbox.migration WHERE version = 3").await;
    let error = failure(&mut session, &Options::default()).await;
    assert!(matches!(error, MigrateError::Missing { version: 3, .. }), "{error}");
}

#[tokio::test]
async fn a_failure_leaves_whole_migrations_and_the_next_run_goes_on() {
    // GIVEN something in the way of the fourth
    let database = Database::create_empty_on(&Services::postgres()).await;
    let mut session = database.connect().await;
    session.run("CREATE SCHEMA outbox; CREATE TABLE outbox.ledger ()").await;

    // WHEN
    let error = failure(&mut session, &Options::default()).await;

    // THEN
    assert_eq!(error.to_string(), "failed while applying migration 4 (ledger)");
    let schema = Schema::default();
    assert_eq!(installed_version(&session, &schema).await.unwrap(), Some(3));
    session.run("DROP TABLE outbox.ledger").await;
    let report = migrate(&mut session, &schema, &Options::default()).await.unwrap();
    assert_eq!(report.applied.first().unwrap().version, 4);
}

#[tokio::test]
async fn a_wait_for_a_lock_ends() {
    // GIVEN a writer in the way of a change to the table
    let database = Database::create().await;
    let mut session = database.connect().await;
    let writer = database.connect().await;
    writer.run("BEGIN; INSERT INTO outbox.message (topic) VALUES ('t')").await;

    // WHEN
    let options = Options {
        doorbell: Some(Doorbell::Off),
        lock_timeout: Duration::from_millis(50),
        ..Options::default()
    };
    let patience = Duration::from_secs(60);
    let failed = tokio::time::timeout(patience, failure(&mut session, &options)).await;
    let error = failed.expect("the wait ends by lock_timeout, long before the test's patience");

    // THEN
    assert!(matches!(error, MigrateError::LockTimeout { .. }), "{error:?}");
    assert_eq!(error.to_string(), "waited too long for a lock while installing the doorbell");
    assert!(error.hint().contains("long transaction"));
}

#[tokio::test]
async fn a_role_without_the_right_is_told_so() {
    let database = Database::create_empty_on(&Services::postgres()).await;
    let role = database.create_role("nobody").await;
    let mut session = Session::connect(&database.url_as(&role)).await;

    let error = failure(&mut session, &Options::default()).await;

    assert!(matches!(error, MigrateError::Forbidden { .. }), "{error:?}");
}

#[tokio::test]
async fn a_role_that_owns_a_schema_made_for_it_needs_no_more() {
    // GIVEN a role that may not create a schema in this database
    let database = Database::create_empty_on(&Services::postgres()).await;
    let role = database.create_role("migrator").await;
    database.connect().await.run(&format!("CREATE SCHEMA outbox AUTHORIZATION {role}")).await;

    // WHEN
    let mut session = Session::connect(&database.url_as(&role)).await;
    let report = migrate(&mut session, &Schema::default(), &Options::default()).await.unwrap();

    // THEN
    assert_eq!(report.version, newest_version());
    session.run("SELECT outbox.publish('t', 'k', 'x')").await;
}

#[tokio::test]
async fn two_schemas_of_one_database_know_nothing_of_each_other() {
    // GIVEN a name that is a keyword, which only works quoted
    for server in [Services::postgres(), Services::postgres_18()] {
        let database = Database::create_on(&server).await;
        let mut session = database.connect().await;
        let other: Schema = "user".parse().unwrap();

        // WHEN
        let options =
            Options { grant_writer: vec![database.create_role("app").await], ..Options::default() };
        let report = migrate(&mut session, &other, &options).await.unwrap();
        session.run(r#"SELECT "user".publish('t', 'k', 'x', '{"a": 1}')"#).await;
        let writer = Session::connect(&database.url_as(&format!("{}_app", database.name))).await;
        writer.run(r#"INSERT INTO "user".message (topic) VALUES ('t')"#).await;

        // THEN
        assert_eq!(report.applied.len(), usize::try_from(newest_version()).unwrap());
        assert_eq!(session.count(r#"SELECT count(*) FROM "user".message"#).await, 2);
        assert_eq!(session.count("SELECT count(*) FROM outbox.message").await, 0);
        let keys = r#"SELECT count(*) FROM outbox.lock_key('@bell') AS a, "user".lock_key('@bell') AS b WHERE a = b"#;
        assert_eq!(session.count(keys).await, 0);

        // AND nothing of it leans on the other
        session.run(r#"DROP SCHEMA outbox CASCADE; SELECT "user".publish('t', 'k', 'x')"#).await;
    }
}

#[tokio::test]
async fn the_report_reads_well() {
    let mut session = Database::create_empty_on(&Services::postgres()).await.connect().await;
    let schema = Schema::default();
    let first = migrate(&mut session, &schema, &Options::default()).await.unwrap();
    insta::assert_snapshot!(first, @r"
    applied   0001 meta
    applied   0002 message
    applied   0003 guard
    applied   0004 ledger
    applied   0005 publish
    applied   0006 doorbell
    applied   0007 message_state
    applied   0008 grant
    doorbell  installed
    schema outbox is up to date at version 8
    ");
    let second = migrate(&mut session, &schema, &Options::default()).await.unwrap();
    insta::assert_snapshot!(second, @r"
    doorbell  in place
    schema outbox was up to date at version 8
    ");
    insta::assert_snapshot!(
        serde_json::to_string(&second).unwrap(),
        @r#"{"schema":"outbox","version":8,"applied":[],"doorbell":{"installed":true,"changed":false},"writers":[],"relays":[]}"#
    );
}
