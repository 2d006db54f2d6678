//! The inbox's own migrations: the files of `schema/inbox/`, embedded in the library.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio_postgres::{Client, Transaction};

use super::Schema;
use super::migration::{self, Applied, MigrateError, Migration, MigrationSet, Ran};

macro_rules! migrations {
    ($($version:literal $name:literal),* $(,)?) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../schema/inbox/000", $version, "_", $name, ".sql")),
        }),*]
    };
}

pub(super) static INBOX: MigrationSet = MigrationSet {
    product: "outbox-inbox",
    noun: "inbox",
    folder: "schema/inbox",
    record_table: "inbox_migration",
    // The first release with DETACH PARTITION CONCURRENTLY and SQL-standard function bodies.
    server_version_min: 140_000,
    server_version_min_text: "14",
    migrations: migrations![1 "inbox", 2 "failure", 3 "idempotency", 4 "maintenance", 5 "forget_key"],
};

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The schema that holds the inbox.
    pub schema: String,
    /// The version it has now.
    pub version: i32,
    /// What was applied, in order; empty if the database was up to date.
    pub applied: Vec<Applied>,
    /// Migrations whose records were lost and have been restored: the schema came without its data.
    #[serde(skip_serializing_if = "is_zero")]
    pub restored: usize,
    /// New tables for which something (an event trigger) had switched row level security on. It was
    /// switched off again: it would hide every row from the roles that the grants are for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unsecured: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

// The row that migration 1 inserts; a restore without data lacks it.
const HORIZON: &str = "
INSERT INTO outbox.inbox_horizon (kept_from)
SELECT (now() AT TIME ZONE 'UTC')::date - 14
WHERE NOT EXISTS (SELECT FROM outbox.inbox_horizon)";

/// The version that this library needs, and migrates to.
#[must_use]
pub fn newest_version() -> i32 {
    INBOX.newest_version()
}

/// Brings the inbox to the newest version. See [`MigrationSet::run`].
///
/// # Errors
/// See [`MigrateError`]; [`MigrateError::hint`] names the remedy.
pub async fn migrate(
    client: &mut Client,
    schema: &Schema,
    lock_timeout: Duration,
) -> Result<Report, MigrateError> {
    let finish = async |transaction: &Transaction<'_>| {
        let inserted = transaction.execute(&schema.sql(HORIZON), &[]).await;
        inserted.map(drop).map_err(|error| MigrateError::database("looking at the horizon", error))
    };
    let Ran { applied, restored, unsecured, finished: () } =
        INBOX.run(client, schema, lock_timeout, finish).await?;
    let (schema, version) = (schema.name().to_owned(), newest_version());
    Ok(Report { schema, version, applied, restored, unsecured })
}

/// The version that is installed; `None` if there is no inbox in this schema.
///
/// # Errors
/// The database's, also when the role may not look into the schema.
pub async fn installed_version(
    client: &Client,
    schema: &Schema,
) -> Result<Option<i32>, tokio_postgres::Error> {
    INBOX.installed_version(client, schema).await
}

/// The inbox as SQL for psql. See [`MigrationSet::print`].
#[must_use]
pub fn print(schema: &Schema, after: i32, lock_timeout: Duration) -> String {
    INBOX.print(schema, after, lock_timeout, "")
}

/// For people; programs take the JSON form.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for applied in &self.applied {
            writeln!(f, "{applied}")?;
        }
        migration::write_notes(f, self.restored, &self.unsecured)?;
        let state = if self.applied.is_empty() { "was up to date" } else { "is up to date" };
        write!(f, "inbox in schema {} {state} at version {}", self.schema, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_sql_is_ascii() {
        // A database of another encoding cannot hold every character, not even in a comment.
        for migration in INBOX.migrations {
            assert!(migration.sql.is_ascii(), "{}", migration.name);
        }
    }

    #[test]
    fn versions_ascend_from_one_without_a_gap() {
        let versions: Vec<_> = INBOX.migrations.iter().map(|m| m.version).collect();
        assert_eq!(versions, (1..=newest_version()).collect::<Vec<_>>());
    }
}
