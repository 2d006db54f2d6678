//! Bringing the outbox to the newest version: its migrations, then doorbell and rights.

use std::fmt;
use std::time::Duration;

use outbox_inbox::schema::migration::{Applied, DEFAULT_LOCK_TIMEOUT, MigrateError};
use serde::Serialize;
use tokio_postgres::{Client, Transaction};

use super::doorbell::{self, Doorbell, DoorbellReport};
use super::outbox::{OUTBOX, newest_version};
use super::{DEFAULT_SCHEMA, Schema};

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

/// Brings the database to the newest version and puts doorbell and rights as the options say. See
/// [`MigrationSet::run`](outbox_inbox::schema::migration::MigrationSet::run).
///
/// # Errors
/// See [`MigrateError`]; [`MigrateError::hint`] names the remedy.
pub async fn migrate(
    client: &mut Client,
    schema: &Schema,
    options: &Options,
) -> Result<Report, MigrateError> {
    let finish = async |transaction: &Transaction<'_>| finish(transaction, schema, options).await;
    let (applied, doorbell) = OUTBOX.run(client, schema, options.lock_timeout, finish).await?;
    Ok(Report {
        schema: schema.name().to_owned(),
        version: newest_version(),
        applied,
        doorbell,
        writers: options.grant_writer.clone(),
        relays: options.grant_relay.clone(),
    })
}

/// Nothing is outstanding: doorbell and rights are put right.
async fn finish(
    transaction: &Transaction<'_>,
    schema: &Schema,
    options: &Options,
) -> Result<DoorbellReport, MigrateError> {
    let doorbell = doorbell::install(transaction, schema, options.doorbell)
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
    Ok(doorbell)
}

/// For people; programs take the JSON form.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for applied in &self.applied {
            writeln!(f, "{applied}")?;
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
