//! `outbox-relay inbox keys list | forget`
//!
//! Neither what was asked for nor what was answered is ever printed.

use anyhow::anyhow;
use clap::builder::NonEmptyStringValueParser;

use super::place::PlaceArgs;
use crate::admin::inbox::key::{self, Key};
use crate::command::decision::ByArg;
use crate::command::table::Table;
use crate::command::{link, output};
use crate::config::Config;
use crate::exit::Failure;

/// `inbox keys …`
#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// List keys whose attempt was lost: their clients, or messages, wait for a person or another attempt.
    List(ListArgs),
    /// Forget a key whose attempt was lost, so that its next request or message begins anew; it is recorded.
    Forget(ForgetArgs),
}

/// Arguments of `inbox keys list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Of this scope, as the list shows it.
    #[arg(long)]
    scope: Option<String>,
    /// This key, in whatever scope.
    #[arg(long)]
    key: Option<String>,
    /// Also those that are finished, worked on, or expired.
    #[arg(long)]
    all: bool,
    /// At most so many.
    #[arg(long, value_name = "ROWS", default_value_t = 100,
          value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `inbox keys forget`.
#[derive(Debug, clap::Args)]
pub struct ForgetArgs {
    /// The key, as `keys list` shows it.
    key: String,
    /// Its scope.
    #[arg(long)]
    scope: String,
    /// Why, and what was found at the third party; recorded.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    #[command(flatten)]
    by: ByArg,
    #[command(flatten)]
    place: PlaceArgs,
}

pub(super) async fn run(
    command: KeysCommand,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    match command {
        KeysCommand::List(args) => list(args, load).await,
        KeysCommand::Forget(args) => forget(args, load).await,
    }
}

async fn list(
    args: ListArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let (session, schema) = args.place.connect(load).await?;
    let (scope, key) = (args.scope.as_deref(), args.key.as_deref());
    let keys = key::list(&session, &schema, scope, key, args.all, args.limit).await;
    let keys = keys.map_err(link::in_database)?;
    Ok(output::answer(args.json, &keys, || render(&keys))?)
}

async fn forget(
    args: ForgetArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let (session, schema) = args.place.connect(load).await?;
    let ForgetArgs { key, scope, reason, by, .. } = args;
    let forgotten = key::forget(&session, &schema, &scope, &key, &reason, by.name()).await;
    if !forgotten.map_err(link::in_database)? {
        let hint = "outbox-relay inbox keys list --all: one that is worked on or has been answered is not forgotten";
        return Err(anyhow!("{key} was not forgotten in {scope:?}\nhint: {hint}").into());
    }
    Ok(output::print(format!("{key} is forgotten\n").as_bytes())?)
}

fn render(keys: &[Key]) -> String {
    if keys.is_empty() {
        return "none\n".to_owned();
    }
    let head = ["SCOPE", "KEY", "STATE", "ATTEMPTS", "CAME TO", "CREATED", "LEASE UNTIL"];
    let mut table = Table::new(&head);
    for key in keys {
        table.row(&[
            key.scope.clone(),
            key.key.clone(),
            key.state.clone(),
            key.attempts.to_string(),
            key.recovery_point.clone(),
            key.created_at.clone(),
            key.lease_until.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}
