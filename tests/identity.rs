//! An outbox that was restored, copied, moved or locked away: whose id it has, and what becomes of it.

mod broker;
mod copy;
mod encoding;
mod failover;
mod restore;
mod row_security;
mod unlogged;

use std::path::Path;
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::database::Database;
use crate::support::services::Services;

/// What pg_dump says of a database.
async fn dump(database: &Database, arguments: &[&str]) -> String {
    let mut command = program("pg_dump");
    command.args(arguments).arg(&database.url);
    let output = command.output().await.expect("pg_dump runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// A new database on the same server with what the dump says.
async fn restore(dump: &str) -> Database {
    let database = Database::create_empty_on(&Services::postgres()).await;
    let mut command = program("psql");
    command.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", &database.url]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("psql runs");
    let mut input = child.stdin.take().expect("it was asked for");
    input.write_all(dump.as_bytes()).await.expect("psql reads");
    drop(input);
    let output: Output = child.wait_with_output().await.expect("psql ends");
    assert!(output.status.success(), "{}", text(&output.stderr));
    database
}

fn program(name: &str) -> Command {
    Command::new(Path::join(&Services::postgres_programs(), name))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
