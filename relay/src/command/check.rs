//! `outbox-relay check`: looks at everything, changes nothing, names a remedy for what is wrong.

mod broker;
mod destination;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::anyhow;
use tokio_postgres::Client;

use self::broker::Outbox;
use super::output;
use super::table::printable;
use crate::admin::check::{self, Finding, Level};
use crate::broker::Broker;
use crate::cause::Cause;
use crate::config::Config;
use crate::database::{DatabaseError, POOLER_HINT, Session, pooler};
use crate::exit::Failure;
use crate::schema::Schema;
use crate::target::amqp::management::Address;

const SESSION_NAME: &str = "outbox-relay check";

const OUTBOX_ID: &str = "
SELECT outbox_id FROM outbox.meta WHERE place IS NULL OR place = outbox.place()";

const BROKERS: &str = "SELECT target, broker_kind, broker_place FROM outbox.ledger";

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// RabbitMQ's management API, `https://user:password@host:15671`: whether a queue is bound where messages go can be
    /// asked there alone. The user needs the tag `monitoring` or `management`. Best in the environment.
    #[arg(
        long,
        env = "OUTBOX_RELAY_RABBITMQ_MANAGEMENT",
        hide_env_values = true,
        value_name = "URL"
    )]
    rabbitmq_management: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints what was found. The configuration has been loaded by then, so that is fine.
///
/// # Errors
/// Exit 78 if something has to be changed, 1 if something is only not there now.
pub async fn run(args: CheckArgs, config: &Config) -> Result<(), Failure> {
    let management = args.rabbitmq_management.as_deref().map(Address::parse).transpose();
    let management = management.map_err(|reason| {
        Failure::Usage(anyhow!(
            "--rabbitmq-management: {reason}\nhint: https://USER:PASSWORD@HOST:15671"
        ))
    })?;
    let path = config.path.display();
    let mut findings = vec![Finding::ok("configuration", format!("{path} is fine"))];
    findings.extend(
        config
            .exposed
            .iter()
            .map(|exposed| Finding::warn("secrets", exposed.reason(), exposed.remedy())),
    );
    let (in_database, outbox) = in_database(config).await;
    findings.extend(in_database);
    findings.extend(check::in_plain_text(config));
    for target in &config.targets {
        let noted = outbox.brokers.get(&target.name);
        findings.extend(broker::look(target, &outbox, noted, management.as_ref()).await);
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

/// With what could be read for the brokers' part.
async fn in_database(config: &Config) -> (Vec<Finding>, Outbox) {
    let schema: Schema = match config.database.schema.parse() {
        Ok(schema) => schema,
        Err(error) => {
            let remedy = "another `schema` under [database]";
            let finding = Finding::fail("configuration", format!("{error}"), remedy);
            return (vec![finding], Outbox::default());
        }
    };
    let mut findings = vec![Finding::ok("database", "reachable")];
    let mut outbox = Outbox::default();
    match pooler(&config.database, SESSION_NAME).await {
        Err(error) => return (vec![unreachable(&error)], outbox),
        // Everything else might fail for no other reason.
        Ok(Some(detail)) => findings.push(Finding::fail("pooler", detail, POOLER_HINT)),
        Ok(None) => {
            findings.push(Finding::ok("pooler", "none in the way"));
            match Session::connect_any(&config.database, SESSION_NAME).await {
                Err(error) => return (vec![unreachable(&error)], outbox),
                Ok(session) => {
                    let names: Vec<_> = config.targets.iter().map(|t| t.name.clone()).collect();
                    findings.extend(check::database(&session, &schema, &names).await);
                    findings.extend(check::newcomers(&session, &schema, &config.targets).await);
                    // Whatever is wrong with it has been said.
                    outbox = look(&session, &schema).await.unwrap_or_default();
                }
            }
        }
    }
    (findings, outbox)
}

async fn look(client: &Client, schema: &Schema) -> Result<Outbox, tokio_postgres::Error> {
    let id = client.query_opt(&schema.sql(OUTBOX_ID), &[]).await?;
    let id = id.map(|row| row.try_get(0)).transpose()?;
    let mut brokers = BTreeMap::new();
    for row in client.query(&schema.sql(BROKERS), &[]).await? {
        if let Some(broker) = Broker::noted(row.try_get(1)?, row.try_get(2)?) {
            brokers.insert(row.try_get(0)?, broker);
        }
    }
    let sample = check::sample(client, schema).await.unwrap_or_default();
    Ok(Outbox { id, brokers, sample })
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
