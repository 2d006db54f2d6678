//! `outbox-relay migrate`: install or update the schema, as the role that owns it.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::config::{Config, DatabaseConfig, TlsConfig, TlsMode};
use crate::database::Session;
use crate::exit::Failure;
use crate::schema::{self, Doorbell, MigrateError, Options, Report, Schema};

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
    /// The owner's connection, `postgres://owner:password@host/database`; `database.url` of the
    /// configuration without it.
    #[arg(long, env = "OUTBOX_RELAY_MIGRATE_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
    /// With --url: encrypt, and verify the server's chain and name by the system's roots.
    #[arg(long, requires = "url")]
    tls: bool,
    /// With --url: the same, by the CA in this PEM file.
    #[arg(long, requires = "url", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The PostgreSQL schema that holds the outbox; `database.schema` of the configuration without it.
    #[arg(long, value_name = "NAME")]
    schema: Option<Schema>,
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
        let schema = args.schema.unwrap_or_default();
        write!(std::io::stdout(), "{}", schema::print(&schema, args.after, &options))?;
        return Ok(());
    }
    let (database, schema) = match args.url {
        Some(url) => (owner(url, args.tls, args.ca_file), args.schema.unwrap_or_default()),
        None => {
            let database = load()?.database;
            let configured = database.schema.parse().map_err(Failure::configuration)?;
            (database, args.schema.unwrap_or(configured))
        }
    };
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
    writeln!(out, "schema {} is at version {}", report.schema, report.version)?;
    match (report.doorbell.installed, report.doorbell.reason) {
        (true, _) => writeln!(out, "doorbell: installed")?,
        (false, Some(reason)) => writeln!(out, "doorbell: not installed ({reason})")?,
        (false, None) => writeln!(out, "doorbell: not installed")?,
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

/// At a url of the command line: nothing else of the configuration is known.
pub(super) fn owner(url: String, tls: bool, ca_file: Option<PathBuf>) -> DatabaseConfig {
    let verified = tls || ca_file.is_some();
    let mode = if verified { TlsMode::VerifyFull } else { TlsMode::Disable };
    DatabaseConfig {
        url,
        password: None,
        schema: schema::DEFAULT_SCHEMA.into(),
        tls: TlsConfig { mode, ca_file, ..TlsConfig::default() },
        connect_timeout: Duration::from_secs(10),
        lock_timeout: schema::DEFAULT_LOCK_TIMEOUT,
        // A migration may scan a large table; its locks are what is bounded.
        statement_timeout: Duration::ZERO,
    }
}
