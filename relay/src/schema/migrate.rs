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

use super::doorbell::{self, Doorbell, DoorbellReport};
use super::migration::{Migration, Record, newest_version, outstanding};
use super::{DEFAULT_SCHEMA, Schema};

/// Long enough for the writers' ordinary transactions to end, short enough that the writers
/// which queue behind the waiting migration do not notice.
pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The first release whose multiranges are whole: 14.0 could lose index entries.
const SERVER_VERSION_MIN: i32 = 140_001;

/// What to do beside applying what is outstanding.
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest wait for any one lock.
    pub lock_timeout: Duration,
    /// Whether commits ring; as it was last said without it.
    pub doorbell: Option<Doorbell>,
    /// Roles that get a writer's rights: exact names, as in `pg_roles`.
    pub grant_writer: Vec<String>,
    /// Roles that get the relay's rights: exact names, as in `pg_roles`.
    pub grant_relay: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lock_timeout: DEFAULT_LOCK_TIMEOUT,
            doorbell: None,
            grant_writer: Vec::new(),
            grant_relay: Vec::new(),
        }
    }
}

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
    /// The schema that holds the outbox.
    pub schema: String,
    /// The version it has now.
    pub version: i32,
    /// What was applied, in order; empty if the database was up to date.
    pub applied: Vec<Applied>,
    /// What became of the doorbell.
    pub doorbell: DoorbellReport,
    /// Roles that were given a writer's rights.
    pub writers: Vec<String>,
    /// Roles that were given the relay's rights.
    pub relays: Vec<String>,
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
    /// A newer relay migrated this database.
    #[error("schema too new: the database has version {installed}, this binary knows {newest}")]
    TooNew {
        /// The database's version.
        installed: i32,
        /// The binary's.
        newest: i32,
    },
    /// What was applied is not what this binary ships under that number.
    #[error("migration {version} ({name}) was applied with another checksum")]
    Changed {
        /// The migration's number.
        version: i32,
        /// The migration's noun.
        name: &'static str,
    },
    /// The record of a migration was removed.
    #[error("migration {version} is not recorded, although the database has version {installed}")]
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
            Self::ServerTooOld { .. } => "PostgreSQL 14.1 or newer is needed",
            Self::Standby => "migrate on the primary; the standby follows",
            Self::TooNew { .. } => "use the newest release of outbox-relay on this database",
            Self::Changed { .. } => {
                "shipped migrations are never edited: use an official release, or restore the record"
            }
            Self::Missing { .. } => "restore the row of the migration table from a backup",
            Self::LockTimeout { .. } => {
                "end the long transaction on the outbox, or the other migration, and run it again"
            }
            Self::Forbidden { .. } => {
                "migrate as the role that owns the outbox and may create a schema in this database"
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

/// Brings the database to the newest version and puts doorbell and rights as the options say.
///
/// Running it again changes nothing. Not cancel-safe in its report, safe in its effects: a dropped
/// future leaves whole migrations behind, and the next run goes on from there.
///
/// # Errors
/// See [`MigrateError`]; [`MigrateError::hint`] names the remedy.
pub async fn migrate(
    client: &mut Client,
    schema: &Schema,
    options: &Options,
) -> Result<Report, MigrateError> {
    check_server(client).await?;
    let mut applied = Vec::new();
    loop {
        let transaction = begin(client, schema, options.lock_timeout).await?;
        // Read anew in each transaction: the lock was free between two of them.
        let Some(migration) = outstanding(&records(&transaction, schema).await?)?.first() else {
            return finish(transaction, schema, options, applied).await;
        };
        apply(&transaction, schema, migration)
            .await
            .map_err(|error| MigrateError::database(format!("applying {migration}"), error))?;
        commit(transaction).await?;
        applied.push(Applied { version: migration.version, name: migration.name });
    }
}

/// The version that is installed; `None` if there is no outbox in this schema.
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
    let row =
        client.query_one(&schema.sql("SELECT max(version) FROM outbox.migration"), &[]).await?;
    Ok(row.get(0))
}

const HAS_RECORDS: &str = "SELECT to_regclass('outbox.migration') IS NOT NULL";

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
SELECT pg_advisory_xact_lock(hashtextextended('outbox-relay migrate {schema}', 0));
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
        let text = schema.sql("SELECT version, checksum FROM outbox.migration ORDER BY version");
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
    let text = "INSERT INTO outbox.migration (version, name, checksum) VALUES ($1, $2, $3)";
    transaction
        .execute(&schema.sql(text), &[&migration.version, &migration.name, &migration.checksum()])
        .await?;
    Ok(())
}

/// The last transaction of a run: nothing is outstanding, doorbell and rights are put right.
async fn finish(
    transaction: Transaction<'_>,
    schema: &Schema,
    options: &Options,
    applied: Vec<Applied>,
) -> Result<Report, MigrateError> {
    let doorbell = doorbell::install(&transaction, schema, options.doorbell)
        .await
        .map_err(|error| MigrateError::database("installing the doorbell", error))?;
    for (function, roles) in
        [("grant_writer", &options.grant_writer), ("grant_relay", &options.grant_relay)]
    {
        // quote_ident, because a role's name is read as an identifier, which folds case.
        let text =
            schema.sql(&format!("SELECT {DEFAULT_SCHEMA}.{function}(quote_ident($1)::regrole)"));
        for role in roles {
            transaction.execute(&text, &[role]).await.map_err(|error| {
                MigrateError::database(format!("granting rights to {role:?}"), error)
            })?;
        }
    }
    commit(transaction).await?;
    Ok(Report {
        schema: schema.name().to_owned(),
        version: newest_version(),
        applied,
        doorbell,
        writers: options.grant_writer.clone(),
        relays: options.grant_relay.clone(),
    })
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
        let doorbell = &self.doorbell;
        match (doorbell.installed, doorbell.changed, doorbell.reason) {
            (true, true, _) => writeln!(f, "doorbell  installed")?,
            (true, false, _) => writeln!(f, "doorbell  in place")?,
            (false, _, Some(reason)) => writeln!(f, "doorbell  left out: {reason}")?,
            (false, _, None) => writeln!(f, "doorbell  off: the relay polls")?,
        }
        for role in &self.writers {
            writeln!(f, "granted   writer {role}")?;
        }
        for role in &self.relays {
            writeln!(f, "granted   relay {role}")?;
        }
        let state = if self.applied.is_empty() { "was up to date" } else { "is up to date" };
        write!(f, "schema {} {state} at version {}", self.schema, self.version)
    }
}
