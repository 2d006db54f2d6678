//! Bringing the outbox to the newest version: its migrations, then doorbell and rights.

use std::fmt;
use std::time::Duration;

use outbox_inbox::schema::migration::{
    Applied, DEFAULT_LOCK_TIMEOUT, MigrateError, Ran, write_notes,
};
use serde::Serialize;
use tokio_postgres::{Client, Transaction};

use super::doorbell::{self, Doorbell, DoorbellReport};
use super::outbox::{OUTBOX, newest_version};
use super::place::{PLACE_HINT, Place};
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
    /// Migrations whose records were lost and have been restored: the schema came without its data.
    #[serde(skip_serializing_if = "is_zero")]
    pub restored: usize,
    /// New tables for which something (an event trigger) had switched row level security on. It was
    /// switched off again: it would hide every row from the roles that the grants are for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unsecured: Vec<String>,
    /// What became of the doorbell.
    pub doorbell: DoorbellReport,
    /// Why no relay leads this outbox until a person has decided: it is a copy, or it was moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
    /// Roles that were given a writer's rights.
    pub writers: Vec<String>,
    /// Roles that were given the relay's rights.
    pub relays: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_zero(count: &usize) -> bool {
    *count == 0
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
    let ran = OUTBOX.run(client, schema, options.lock_timeout, finish).await?;
    let Ran { applied, restored, unsecured, finished: (doorbell, moved) } = ran;
    Ok(Report {
        schema: schema.name().to_owned(),
        version: newest_version(),
        applied,
        restored,
        unsecured,
        doorbell,
        moved,
        writers: options.grant_writer.clone(),
        relays: options.grant_relay.clone(),
    })
}

// The row that migration 1 inserts; a restore without data lacks it, and gets an id of its own.
const META: &str = "INSERT INTO outbox.meta DEFAULT VALUES ON CONFLICT DO NOTHING";

const MAY_ASK: &str = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')";

/// Nothing is outstanding: identity, doorbell and rights are put right. Also returns what tells that
/// the outbox was copied or moved.
async fn finish(
    transaction: &Transaction<'_>,
    schema: &Schema,
    options: &Options,
) -> Result<(DoorbellReport, Option<String>), MigrateError> {
    let identified = async {
        transaction.execute(&schema.sql(META), &[]).await?;
        // Refused to the owner here and there; the relay, which needs it anyhow, notes it then.
        if !transaction.query_one(MAY_ASK, &[]).await?.try_get::<_, bool>(0)? {
            return Ok(None);
        }
        Place::note(transaction, schema).await?;
        Ok(Place::read(transaction, schema).await?.moved())
    };
    let moved =
        identified.await.map_err(|error| MigrateError::database("noting the place", error))?;
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
    Ok((doorbell, moved))
}

/// For people; programs take the JSON form.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for applied in &self.applied {
            writeln!(f, "{applied}")?;
        }
        write_notes(f, self.restored, &self.unsecured)?;
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
        if let Some(moved) = &self.moved {
            writeln!(f, "warning   {moved}; hint: {PLACE_HINT}")?;
        }
        let state = if self.applied.is_empty() { "was up to date" } else { "is up to date" };
        write!(f, "schema {} {state} at version {}", self.schema, self.version)
    }
}
