//! `outbox-relay migrate`: install or update the schema, as the role that owns it.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::owner::OwnerArgs;
use crate::config::Config;
use crate::database::Session;
use crate::exit::Failure;
use crate::schema::{self, Doorbell, MigrateError, Options, Report};

/// Options of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Print the SQL instead of running it; needs no database.
    #[arg(long)]
    print: bool,
    /// With --print: only what follows this version, for a database that has it already.
    #[arg(long, requires = "print", value_name = "VERSION", default_value_t = 0,
          value_parser = clap::value_parser!(i32).range(0..=i64::from(schema::newest_version())))]
    after: i32,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Whether commits wake an idle relay: `on`, `off`, or `auto`, which leaves it out where
    /// transactions are prepared. It is remembered: without it as was last said, `auto` at first.
    #[arg(long, value_name = "MODE", value_parser = doorbell)]
    doorbell: Option<Doorbell>,
    /// Give this role what writers need. May be repeated.
    #[arg(long, value_name = "ROLE")]
    grant_writer: Vec<String>,
    /// Give this role what the relay needs. May be repeated.
    #[arg(long, value_name = "ROLE")]
    grant_relay: Vec<String>,
    /// The longest wait for a lock.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    lock_timeout: Duration,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `migrate`; the configuration is loaded only if it is needed.
///
/// # Errors
/// See [`MigrateError`].
pub async fn migrate(
    args: MigrateArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let options = Options {
        lock_timeout: args.lock_timeout,
        doorbell: args.doorbell,
        grant_writer: args.grant_writer,
        grant_relay: args.grant_relay,
    };
    if args.print {
        let schema = args.owner.into_schema();
        write!(std::io::stdout(), "{}", schema::print(&schema, args.after, &options))?;
        return Ok(());
    }
    let (database, schema) = args.owner.resolve(load)?;
    let mut session = Session::connect(&database, "outbox-relay migrate").await?;
    let report = schema::migrate(&mut session, &schema, &options).await.map_err(failure)?;
    print(&report, args.json)
}

fn failure(error: MigrateError) -> Failure {
    let (hint, configuration) = (error.hint(), error.is_configuration());
    let mut what = error.to_string();
    if let MigrateError::Database { source, .. } = &error {
        what = format!("{what}: {}", crate::database::describe(source));
    }
    let error = anyhow::anyhow!("{what}\nhint: {hint}");
    if configuration { Failure::Configuration(error) } else { Failure::Failed(error) }
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    if json {
        let text = serde_json::to_string_pretty(report).context("the report is plain data")?;
        writeln!(out, "{text}")?;
        return Ok(());
    }
    for applied in &report.applied {
        writeln!(out, "applied {:04} {}", applied.version, applied.name)?;
    }
    if report.restored > 0 {
        let migrations = report.restored;
        writeln!(
            out,
            "restored the records of {migrations} migrations: the schema came without data"
        )?;
    }
    if !report.unsecured.is_empty() {
        writeln!(
            out,
            "row level security had been switched on for new tables (an event trigger does that) and \
             was switched off again: {}",
            report.unsecured.join(", ")
        )?;
    }
    writeln!(out, "schema {} is at version {}", report.schema, report.version)?;
    match (report.doorbell.installed, report.doorbell.reason) {
        (true, _) => writeln!(out, "doorbell: installed")?,
        (false, Some(reason)) => writeln!(out, "doorbell: not installed ({reason})")?,
        (false, None) => writeln!(out, "doorbell: not installed")?,
    }
    if let Some(moved) = &report.moved {
        writeln!(
            out,
            "warning: no relay leads this outbox: {moved}\nhint: {}",
            schema::PLACE_HINT
        )?;
    }
    for role in &report.writers {
        writeln!(out, "granted to {role}: what writers need")?;
    }
    for role in &report.relays {
        writeln!(out, "granted to {role}: what the relay needs")?;
    }
    Ok(())
}

fn doorbell(text: &str) -> Result<Doorbell, String> {
    match text {
        "auto" => Ok(Doorbell::Auto),
        "on" => Ok(Doorbell::On),
        "off" => Ok(Doorbell::Off),
        _ => Err("it is one of auto, on, off".into()),
    }
}
