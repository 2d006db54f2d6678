//! `outbox-relay check`: looks at everything, changes nothing, names a remedy for what is wrong.

mod broker;

use std::fmt::Write as _;

use anyhow::anyhow;
use uuid::Uuid;

use super::output;
use super::table::printable;
use crate::admin::check::{self, Finding, Level};
use crate::cause::Cause;
use crate::config::Config;
use crate::database::{DatabaseError, POOLER_HINT, Session, pooler};
use crate::exit::Failure;
use crate::schema::Schema;

const SESSION_NAME: &str = "outbox-relay check";

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints what was found. The configuration has been loaded by then, so that is fine.
///
/// # Errors
/// Exit 78 if something has to be changed, 1 if something is only not there now.
pub async fn run(args: CheckArgs, config: &Config) -> Result<(), Failure> {
    let path = config.path.display();
    let mut findings = vec![Finding::ok("configuration", format!("{path} is fine"))];
    let (in_database, outbox_id) = in_database(config).await;
    findings.extend(in_database);
    findings.extend(check::in_plain_text(&config.database, &config.targets));
    for target in &config.targets {
        findings.extend(broker::look(target, outbox_id).await);
    }
    output::answer(args.json, &findings, || render(&findings))?;
    let failed = findings.iter().filter(|finding| finding.level >= Level::Down).count();
    let error = anyhow!("{failed} of {} checks failed", findings.len());
    match check::worst(&findings) {
        Level::Ok | Level::Warn => Ok(()),
        Level::Down => Err(Failure::Failed(error)),
        Level::Fail => Err(Failure::Configuration(error)),
    }
}

/// With the outbox's id, if it could be read.
async fn in_database(config: &Config) -> (Vec<Finding>, Option<Uuid>) {
    let schema: Schema = match config.database.schema.parse() {
        Ok(schema) => schema,
        Err(error) => {
            let remedy = "another `schema` under [database]";
            return (vec![Finding::fail("configuration", format!("{error}"), remedy)], None);
        }
    };
    let mut findings = vec![Finding::ok("database", "reachable")];
    let mut outbox_id = None;
    match pooler(&config.database, SESSION_NAME).await {
        Err(error) => return (vec![unreachable(&error)], None),
        // Everything else might fail for no other reason.
        Ok(Some(detail)) => findings.push(Finding::fail("pooler", detail, POOLER_HINT)),
        Ok(None) => {
            findings.push(Finding::ok("pooler", "none in the way"));
            match Session::connect_any(&config.database, SESSION_NAME).await {
                Err(error) => return (vec![unreachable(&error)], None),
                Ok(session) => {
                    let names: Vec<_> = config.targets.iter().map(|t| t.name.clone()).collect();
                    findings.extend(check::database(&session, &schema, &names).await);
                    // Whatever is wrong with it has been said.
                    let meta = schema.sql("SELECT outbox_id FROM outbox.meta");
                    outbox_id = session
                        .query_one(&meta, &[])
                        .await
                        .ok()
                        .and_then(|row| row.try_get(0).ok());
                }
            }
        }
    }
    (findings, outbox_id)
}

fn unreachable(error: &DatabaseError) -> Finding {
    match error {
        DatabaseError::Unavailable(reason) => {
            let Cause { reason, hint } = Cause::from(reason.as_str());
            let asked = "is it up? does `url` under [database] lead to it?";
            let hint = hint.unwrap_or_else(|| asked.to_owned());
            Finding::down("database", format!("unavailable: {reason}"), hint)
        }
        DatabaseError::Statement { reason, hint, .. } => {
            let hint = hint.clone().unwrap_or_else(|| "check again".into());
            Finding::down("database", reason, hint)
        }
        DatabaseError::Configuration { reason, hint } => {
            Finding::fail("database", reason, hint.as_ref())
        }
    }
}

/// One line each.
#[must_use]
pub fn render(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { level, subject, detail, remedy } in findings {
        let level = match level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Down | Level::Fail => "fail",
        };
        let detail = printable(detail, usize::MAX);
        // Writing to a String does not fail.
        let _ = write!(text, "{level:4}  {subject:width$}  {detail}");
        if let Some(remedy) = remedy {
            let _ = write!(text, "; hint: {}", printable(remedy, usize::MAX));
        }
        text.push('\n');
    }
    text
}
