//! The migration runner: brings a database to the newest version, one transaction a migration.
//!
//! It can be run at any time, by several processes at once, on a database that applications are
//! writing to: an advisory lock lets one at a time decide, and `lock_timeout` ends a wait for a
//! table lock, behind which every writer would queue.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::Schema;
use super::migration::{Migration, Record, newest_version, outstanding};

/// Long enough for the writers' ordinary transactions to end, short enough that the writers
/// which queue behind the waiting migration do not notice.
pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The first release with DETACH PARTITION CONCURRENTLY and SQL-standard function bodies.
const SERVER_VERSION_MIN: i32 = 140_000;

/// A migration that this run applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Its number.
    pub version: i32,
    /// Its noun, as in the file's name.
    pub name: &'static str,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The schema that holds the inbox.
    pub schema: String,
    /// The version it has now.
    pub version: i32,
    /// What was applied, in order; empty if the database was up to date.
    pub applied: Vec<Applied>,
}

/// Why a database was not migrated. Migrations that were applied before the failure stay applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The server lacks what the schema is made of.
    #[error("PostgreSQL {version} is too old")]
    ServerTooOld {
        /// As the server prints it.
        version: String,
    },
    /// The server replays somebody else's changes.
    #[error("the server is a standby")]
    Standby,
    /// A newer release migrated this database.
    #[error("inbox too new: the database has version {installed}, this program knows {newest}")]
    TooNew {
        /// The database's version.
        installed: i32,
        /// The program's.
        newest: i32,
    },
    /// What was applied is not what this program ships under that number.
    #[error("inbox migration {version} ({name}) was applied with another checksum")]
    Changed {
        /// The migration's number.
        version: i32,
        /// The migration's noun.
        name: &'static str,
    },
    /// The record of a migration was removed.
    #[error(
        "inbox migration {version} is not recorded, although the database has version {installed}"
    )]
    Missing {
        /// The number that has no record.
        version: i32,
        /// The highest number that has one.
        installed: i32,
    },
    /// Somebody held a lock for longer than `lock_timeout`.
    #[error("waited too long for a lock while {step}")]
    LockTimeout {
        /// What was being done.
        step: String,
        /// The server's answer.
        source: tokio_postgres::Error,
    },
    /// The role lacks a right.
    #[error("not permitted while {step}")]
    Forbidden {
        /// What was being done.
        step: String,
        /// The server's answer.
        source: tokio_postgres::Error,
    },
    /// Any other answer of the database.
    #[error("failed while {step}")]
    Database {
        /// What was being done.
        step: String,
        /// The server's answer.
        source: tokio_postgres::Error,
    },
}

impl MigrateError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::ServerTooOld { .. } => "PostgreSQL 14 or newer is needed",
            Self::Standby => "migrate on the primary; the standby follows",
            Self::TooNew { .. } => "use the newest release of outbox-inbox on this database",
            Self::Changed { .. } => {
                "shipped migrations are never edited: use an official release, or restore the record"
            }
            Self::Missing { .. } => "restore the row of inbox_migration from a backup",
            Self::LockTimeout { .. } => {
                "end the long transaction on the inbox, or the other migration, and run it again"
            }
            Self::Forbidden { .. } => {
                "migrate as the role that owns the inbox and may create a schema in this database"
            }
            Self::Database { .. } => {
                "what was applied before stays; run it again once this is solved"
            }
        }
    }

    /// Keeps apart what a person can do something about.
    fn database(step: impl Into<String>, source: tokio_postgres::Error) -> Self {
        let step = step.into();
        match source.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Self::LockTimeout { step, source },
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::Forbidden { step, source },
            _ => Self::Database { step, source },
        }
    }
}

/// Brings the inbox to the newest version.
///
/// Running it again changes nothing. Not cancel-safe in its report, safe in its effects: a dropped
/// future leaves whole migrations behind, and the next run goes on from there.
///
/// # Errors
/// See [`MigrateError`]; [`MigrateError::hint`] names the remedy.
pub async fn migrate(
    client: &mut Client,
    schema: &Schema,
    lock_timeout: Duration,
) -> Result<Report, MigrateError> {
    check_server(client).await?;
    let mut applied = Vec::new();
    loop {
        let transaction = begin(client, schema, lock_timeout).await?;
        // Read anew in each transaction: the lock was free between two of them.
        let Some(migration) = outstanding(&records(&transaction, schema).await?)?.first() else {
            commit(transaction).await?;
            let (schema, version) = (schema.name().to_owned(), newest_version());
            return Ok(Report { schema, version, applied });
        };
        apply(&transaction, schema, migration)
            .await
            .map_err(|error| MigrateError::database(format!("applying {migration}"), error))?;
        commit(transaction).await?;
        applied.push(Applied { version: migration.version, name: migration.name });
    }
}

/// The version that is installed; `None` if there is no inbox in this schema.
///
/// # Errors
/// The database's, also when the role may not look into the schema.
pub async fn installed_version(
    client: &Client,
    schema: &Schema,
) -> Result<Option<i32>, tokio_postgres::Error> {
    let found = client.query_one(&schema.sql(HAS_RECORDS), &[]).await?;
    if !found.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = client
        .query_one(&schema.sql("SELECT max(version) FROM outbox.inbox_migration"), &[])
        .await?;
    Ok(row.get(0))
}

const HAS_RECORDS: &str = "SELECT to_regclass('outbox.inbox_migration') IS NOT NULL";

/// What every transaction begins with: settings of its own, the lock, the schema.
///
/// The search path holds nothing that somebody else could have put an object into.
/// `CREATE SCHEMA IF NOT EXISTS` would demand the right to create one even where a DBA already did.
pub(super) fn prologue(schema: &Schema, lock_timeout: Duration) -> String {
    let quoted = format!("\"{schema}\"");
    format!(
        "SET LOCAL lock_timeout = {};
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
SELECT pg_advisory_xact_lock(hashtextextended('outbox-inbox migrate {schema}', 0));
DO $prologue$
BEGIN
    IF to_regnamespace('{quoted}') IS NULL THEN
        CREATE SCHEMA {quoted};
    END IF;
END
$prologue$;
",
        lock_timeout.as_millis()
    )
}

async fn check_server(client: &Client) -> Result<(), MigrateError> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                    pg_is_in_recovery()",
            &[],
        )
        .await
        .map_err(|error| MigrateError::database("looking at the server", error))?;
    if row.get::<_, i32>(0) < SERVER_VERSION_MIN {
        return Err(MigrateError::ServerTooOld { version: row.get(1) });
    }
    if row.get(2) {
        return Err(MigrateError::Standby);
    }
    Ok(())
}

/// READ COMMITTED whatever the database's default is: under a snapshot taken before the wait for
/// the lock, the second of two runners would not see what the first applied.
async fn begin<'a>(
    client: &'a mut Client,
    schema: &Schema,
    lock_timeout: Duration,
) -> Result<Transaction<'a>, MigrateError> {
    let step = "waiting for the migration lock";
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .read_only(false)
        .start()
        .await
        .map_err(|error| MigrateError::database(step, error))?;
    transaction
        .batch_execute(&prologue(schema, lock_timeout))
        .await
        .map_err(|error| MigrateError::database(step, error))?;
    Ok(transaction)
}

async fn records(
    transaction: &Transaction<'_>,
    schema: &Schema,
) -> Result<Vec<Record>, MigrateError> {
    let read = async {
        if !transaction.query_one(&schema.sql(HAS_RECORDS), &[]).await?.get::<_, bool>(0) {
            return Ok(Vec::new());
        }
        let text =
            schema.sql("SELECT version, checksum FROM outbox.inbox_migration ORDER BY version");
        let rows = transaction.query(&text, &[]).await?;
        Ok(rows.iter().map(|row| Record { version: row.get(0), checksum: row.get(1) }).collect())
    };
    read.await.map_err(|error| MigrateError::database("reading what was applied", error))
}

async fn apply(
    transaction: &Transaction<'_>,
    schema: &Schema,
    migration: &Migration,
) -> Result<(), tokio_postgres::Error> {
    transaction.batch_execute(&schema.sql(migration.sql)).await?;
    let text = "INSERT INTO outbox.inbox_migration (version, name, checksum) VALUES ($1, $2, $3)";
    transaction
        .execute(&schema.sql(text), &[&migration.version, &migration.name, &migration.checksum()])
        .await?;
    Ok(())
}

async fn commit(transaction: Transaction<'_>) -> Result<(), MigrateError> {
    transaction.commit().await.map_err(|error| MigrateError::database("committing", error))
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "migration {} ({})", self.version, self.name)
    }
}

/// For people; programs take the JSON form.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Applied { version, name } in &self.applied {
            writeln!(f, "applied   {version:04} {name}")?;
        }
        let state = if self.applied.is_empty() { "was up to date" } else { "is up to date" };
        write!(f, "inbox in schema {} {state} at version {}", self.schema, self.version)
    }
}
