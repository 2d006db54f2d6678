//! Is everything as the relay needs it? Read-only; everything is looked at, whatever fails first.

use serde::Serialize;
use tokio_postgres::{Client, Error};

use crate::config::TargetConfig;
use crate::database::{Reaction, describe, reaction, remedy};
use crate::schema::{self, Schema};

mod addition;
mod grant;
mod guard;
mod identity;
mod intruder;
mod ledger;
mod newcomer;
mod place;
mod route;
mod sample;
mod server;
mod table;
mod transport;
mod writer;

pub use grant::{MissingRight, missing_rights};
pub use sample::{SAMPLE_ROWS, sample};
pub use transport::{in_plain_text, management_in_plain_text};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and somebody should know.
    Warn,
    /// Not there now: trying again may help (exit 1).
    Down,
    /// It will not work until somebody changes something (exit 78).
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at, in a word or two.
    pub subject: String,
    /// What was found.
    pub detail: String,
    /// What to do about it: a statement, a command, a key of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// As it should be.
    #[must_use]
    pub fn ok(subject: &str, detail: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject: subject.to_owned(), detail: detail.into(), remedy: None }
    }

    /// It works, and somebody should know.
    #[must_use]
    pub fn warn(subject: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::bad(Level::Warn, subject, detail, remedy)
    }

    /// Not there now.
    #[must_use]
    pub fn down(subject: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::bad(Level::Down, subject, detail, remedy)
    }

    /// It will not work like this.
    #[must_use]
    pub fn fail(subject: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::bad(Level::Fail, subject, detail, remedy)
    }

    fn bad(
        level: Level,
        subject: &str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (detail, remedy) = (detail.into(), Some(remedy.into()));
        Self { level, subject: subject.to_owned(), detail, remedy }
    }
}

/// The worst of all; [`Level::Ok`] without any.
#[must_use]
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

/// Looks at everything in the database. `targets`: the names in the configuration.
///
/// The session should be one the relay itself would use: rights, policies and settings are those of
/// its role. Nothing is written; no statement waits for a lock of a table.
///
/// # Errors
/// None: what cannot be looked at is a finding.
pub async fn database(client: &Client, schema: &Schema, targets: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    collect(&mut findings, "server", server::look(client).await);
    let installed = collect(&mut findings, "schema", version(client, schema).await);
    if !installed {
        // Everything below would say the same in other words.
        return findings;
    }
    collect(&mut findings, "grants", grant::look(client, schema).await);
    collect(&mut findings, "tables", table::look(client, schema).await);
    collect(&mut findings, "guards", guard::look(client, schema).await);
    collect(&mut findings, "identity", identity::look(client, schema).await);
    collect(&mut findings, "writers", writer::look(client, schema).await);
    collect(&mut findings, "additions", addition::look(client, schema).await);
    // The first to read a table: without the right to, the finding above says which is missing.
    if findings.iter().all(|finding| finding.subject != "grants" || finding.level < Level::Down) {
        collect(&mut findings, "place", place::look(client, schema).await);
        collect(&mut findings, "ledgers", ledger::look(client, schema, targets).await);
        collect(&mut findings, "keeper", addition::troubles(client, schema).await);
        collect(&mut findings, "locks", intruder::look(client, schema, targets).await);
        collect(&mut findings, "routes", route::look(client, schema).await);
    }
    findings
}

/// What targets without a ledger will send. The findings of [`database`] say why it cannot be known.
pub async fn newcomers(client: &Client, schema: &Schema, targets: &[TargetConfig]) -> Vec<Finding> {
    newcomer::look(client, schema, targets).await.unwrap_or_default()
}

/// Appends what was found, or that it could not be; whether nothing of it failed.
fn collect(findings: &mut Vec<Finding>, subject: &str, found: Result<Vec<Finding>, Error>) -> bool {
    let found = found.unwrap_or_else(|error| vec![unknown(subject, &error)]);
    let good = worst(&found) < Level::Down;
    findings.extend(found);
    good
}

fn unknown(subject: &str, error: &Error) -> Finding {
    let detail = format!("could not be looked at: {}", describe(error));
    let remedy = remedy(error);
    match reaction(error) {
        Reaction::Reconnect | Reaction::Again | Reaction::Resources => {
            let remedy = remedy.unwrap_or("is the database reachable? check again".into());
            Finding::down(subject, detail, remedy)
        }
        Reaction::Refused | Reaction::Permission | Reaction::Data | Reaction::Misfit => {
            Finding::fail(subject, detail, remedy.unwrap_or("solve this, and check again".into()))
        }
    }
}

async fn version(client: &Client, schema: &Schema) -> Result<Vec<Finding>, Error> {
    let subject = "schema";
    let newest = schema::newest_version();
    let found = match schema::found(client, schema).await {
        Err(error) if error.code() == Some(&INSUFFICIENT) => {
            // Which rights are missing is the next thing that is looked at.
            return Ok(vec![Finding::warn(subject, "the version cannot be read", "see grants")]);
        }
        found => found?,
    };
    Ok(vec![match schema::misfit(schema, found) {
        Some((detail, remedy)) => Finding::fail(subject, detail, remedy),
        None => Finding::ok(subject, format!("{}, version {newest}", schema.name())),
    }])
}

const INSUFFICIENT: tokio_postgres::error::SqlState =
    tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE;
