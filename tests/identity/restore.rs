//! A restore of the schema alone: `check`, `migrate` and `run` agree, and nothing panics.

use outbox_relay::schema::{MigrateError, Options, Schema, migrate, newest_version};

use super::{dump, restore, text};
use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::relay::{RelayProcess, command, raw_command};
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::Stage;

async fn records(session: &Session) -> Vec<(i32, String, String)> {
    let read = "SELECT version, name, checksum FROM outbox.migration ORDER BY version";
    let rows = session.query(read, &[]).await.expect("the records can be read");
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

async fn outbox_id(session: &Session) -> String {
    let read = "SELECT outbox_id::text FROM outbox.meta";
    session.query_one(read, &[]).await.expect("an outbox has an id").get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_without_data_is_completed_by_migrate() {
    let source = Database::create().await;
    source.connect().await.run("INSERT INTO outbox.message (topic) VALUES ('t')").await;
    for arguments in [&["--schema-only"], &["--exclude-table-data=outbox.*"]] {
        // GIVEN
        let restored = restore(&dump(&source, arguments).await).await;
        let stage = Stage::new(restored).await;
        let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
        let session = stage.session().await;

        // WHEN it is checked and run THEN both name the remedy, and no part panics
        let checked = text(&command(&stage.config, &["check"]).await.stdout);
        assert!(checked.contains("was restored without its data"), "{checked}");
        assert!(checked.contains("hint: outbox-relay migrate"), "{checked}");
        let run = command(&stage.config, &["run"]).await;
        let said = text(&run.stderr) + &text(&run.stdout);
        assert!(said.contains("restored without its data"), "{said}");
        assert!(!said.contains("panicked"), "{said}");

        // WHEN it is migrated THEN the records are those of the source, and the outbox has its own id
        let url = &stage.database.url;
        let migrated = raw_command(&["migrate", "--url", url]).await;
        let said = text(&migrated.stdout) + &text(&migrated.stderr);
        assert!(migrated.status.success(), "{said}");
        let named = format!("restored the records of {} migrations", newest_version());
        assert!(said.contains(&named), "{said}");
        let source = source.connect().await;
        assert_eq!(records(&session).await, records(&source).await);
        assert_ne!(outbox_id(&session).await, outbox_id(&source).await);

        // AND it works
        session.run("INSERT INTO outbox.message (topic) VALUES ('t')").await;
        let relay = RelayProcess::start(&stage.config).await;
        stage.wait_received(1).await;
        stage.wait_settled().await;
        assert!(relay.terminate().await.success());
        let mut session = stage.session().await;
        let again = migrate(&mut session, &Schema::default(), &Options::default()).await.unwrap();
        assert_eq!((again.restored, again.applied.len(), again.moved), (0, 0, None));
    }
}

#[tokio::test]
async fn a_schema_without_data_and_comments_is_explained() {
    // GIVEN
    let dump = dump(&Database::create().await, &["--schema-only", "--no-comments"]).await;
    let restored = restore(&dump).await;

    // WHEN
    let mut session = restored.connect().await;
    let error = migrate(&mut session, &Schema::default(), &Options::default()).await;
    let error = error.expect_err("what the tables are made by is not known");

    // THEN
    assert!(matches!(error, MigrateError::Unrecorded { .. }), "{error}");
    assert!(error.to_string().contains("the record of its migrations is not"), "{error}");
    assert!(error.hint().contains("--no-comments"), "{}", error.hint());
}

#[tokio::test]
async fn an_inbox_without_data_is_completed_by_init() {
    // GIVEN
    let source = Database::create_empty_on(&Services::postgres()).await;
    let init = async |database: &Database| {
        let output = raw_command(&["inbox", "init", "--url", &database.url]).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    init(&source).await;
    let restored = restore(&dump(&source, &["--schema-only"]).await).await;

    // WHEN
    let said = init(&restored).await;

    // THEN
    assert!(said.contains("restored  the records of"), "{said}");
    let session = restored.connect().await;
    let claimed = "SELECT count(*) FROM outbox.inbox_horizon";
    assert_eq!(session.count(claimed).await, 1);
}

#[tokio::test]
async fn an_outbox_without_an_id_has_no_locks() {
    // GIVEN
    let session = Database::create().await.connect().await;
    session.run("DELETE FROM outbox.meta").await;

    // WHEN
    let refused = session.query_one("SELECT outbox.lock_key('lake')", &[]).await;

    // THEN it is an error, since NULL would be a lock that is never held
    let refused = refused.expect_err("there is no id");
    let said = refused.as_db_error().expect("the server refuses it").message();
    assert!(said.contains("restored without its data"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_schema_is_explained() {
    // GIVEN an outbox whose schema was renamed
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    stage.session().await.run("ALTER SCHEMA outbox RENAME TO box").await;
    let stage = stage.set("database", "schema", "\"box\"");

    // WHEN
    let check = command(&stage.config, &["check"]).await;
    let run = command(&stage.config, &["run"]).await;

    // THEN both say so, and what to do
    for output in [check, run] {
        assert!(!output.status.success(), "{output:?}");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains("had another name") && said.contains("ALTER SCHEMA"), "{said}");
    }
}
