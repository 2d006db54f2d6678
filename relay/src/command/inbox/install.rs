//! `outbox-relay inbox init | ddl`: installing the inbox, or printing how.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::anyhow;
use outbox_inbox::schema::{self, MigrateError, Report};

use super::place::{PlaceArgs, connect};
use crate::command::{link, output};
use crate::config::Config;
use crate::database::describe;
use crate::exit::Failure;
use crate::schema::Schema;

/// Arguments of `inbox init`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Give this role what a consumer, or a handler of requests, needs. May be repeated.
    #[arg(long, value_name = "ROLE")]
    grant: Vec<String>,
    /// The longest wait for a lock.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    lock_timeout: Duration,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `inbox ddl`.
#[derive(Debug, clap::Args)]
pub struct DdlArgs {
    /// The schema that holds the inbox.
    #[arg(long, value_name = "NAME")]
    schema: Option<Schema>,
    /// Only what follows this version, for a database that has it already.
    #[arg(long, value_name = "VERSION", default_value_t = 0,
          value_parser = clap::value_parser!(i32).range(0..=i64::from(schema::newest_version())))]
    after: i32,
    /// The longest wait for a lock.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    lock_timeout: Duration,
}

pub(super) async fn init(
    args: InitArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let (mut session, schema) = connect(&args.place.inbox(load)?).await?;
    let report = schema::migrate(&mut session, &schema, args.lock_timeout).await;
    let report = report.map_err(failure)?;
    for role in &args.grant {
        // quote_ident, because a role's name is read as an identifier, which folds case.
        let text = schema.sql("SELECT outbox.grant_inbox(quote_ident($1)::regrole)");
        session.execute(&text, &[role]).await.map_err(link::in_database)?;
    }
    Ok(output::answer(args.json, &report, || render(&report, &args.grant))?)
}

pub(super) fn ddl(args: &DdlArgs) -> Result<(), Failure> {
    let schema = args.schema.clone().unwrap_or_default();
    let text = schema::print(&schema, args.after, args.lock_timeout);
    Ok(output::print(text.as_bytes())?)
}

fn render(report: &Report, granted: &[String]) -> String {
    let mut text = format!("{report}\n");
    for role in granted {
        // Writing to a String does not fail.
        let _ = writeln!(text, "granted to {role}: what consumers need");
    }
    text
}

fn failure(error: MigrateError) -> Failure {
    let (hint, configuration) = (error.hint(), error.is_configuration());
    let what = match &error {
        MigrateError::Database { source, .. } | MigrateError::Forbidden { source, .. } => {
            format!("{error}: {}", describe(source))
        }
        _ => error.to_string(),
    };
    let text = anyhow!("{what}\nhint: {hint}");
    if configuration { Failure::Configuration(text) } else { Failure::Failed(text) }
}
