//! `outbox-relay migrate --print`: the same by hand, with psql.

use std::process::Stdio;

use outbox_relay::schema::{Doorbell, Options, Schema, migrate, newest_version, print};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::database::Database;
use crate::support::services::Services;

/// Runs a script as a person would; what psql says on stderr, or `Ok`.
async fn psql(database: &Database, script: &str) -> Result<(), String> {
    let run = async {
        let mut child = Command::new(Services::postgres_programs().join("psql"))
            .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", &database.url])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(script.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = run.await.expect("psql runs");
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into())
    }
}

#[tokio::test]
async fn what_was_applied_by_psql_is_not_applied_again() {
    for (server, name) in [
        (Services::postgres(), "outbox"),
        (Services::postgres_18(), "outbox"),
        (Services::postgres(), "mail_box"),
    ] {
        // GIVEN
        let database = Database::create_empty_on(&server).await;
        let schema: Schema = name.parse().unwrap();
        let writer = database.create_role("Wri'ter").await;
        let options = Options { grant_writer: vec![writer.clone()], ..Options::default() };

        // WHEN
        psql(&database, &print(&schema, 0, &options)).await.unwrap();
        let mut session = database.connect().await;
        let report = migrate(&mut session, &schema, &Options::default()).await.unwrap();

        // THEN
        assert!(report.applied.is_empty());
        assert_eq!(report.version, newest_version());
        assert!(report.doorbell.installed && !report.doorbell.changed);
        let granted = schema.sql(
            "SELECT has_column_privilege($1::text, 'outbox.message'::regclass, 'topic', 'INSERT')",
        );
        assert!(session.query_one(&granted, &[&writer]).await.unwrap().get::<_, bool>(0));
    }
}

#[tokio::test]
async fn applied_twice_it_stops_and_changes_nothing() {
    let database = Database::create_empty_on(&Services::postgres()).await;
    let script = print(&Schema::default(), 0, &Options::default());
    psql(&database, &script).await.unwrap();
    let session = database.connect().await;
    session.run("INSERT INTO outbox.message (topic) VALUES ('t')").await;

    let stopped = psql(&database, &script).await.unwrap_err();

    assert!(stopped.contains("relation \"migration\" already exists"), "{stopped}");
    assert_eq!(session.count("SELECT count(*) FROM outbox.message").await, 1);
}

#[tokio::test]
async fn a_script_after_a_version_has_only_what_follows() {
    // GIVEN a database with the first five
    let database = Database::create_empty_on(&Services::postgres()).await;
    let schema = Schema::default();
    let all = print(&schema, 0, &Options::default());
    let (first, _) = all.split_once("-- schema/0006").unwrap();
    psql(&database, &format!("{first}COMMIT;")).await.unwrap();

    // WHEN
    let options = Options { doorbell: Some(Doorbell::Off), ..Options::default() };
    psql(&database, &print(&schema, 5, &options)).await.unwrap();

    // THEN
    let mut session = database.connect().await;
    let report = migrate(&mut session, &schema, &options).await.unwrap();
    assert!(report.applied.is_empty());
    assert!(!report.doorbell.installed);
}
