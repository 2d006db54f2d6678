//! `outbox-relay inbox failures list | show | replay | discard`
//!
//! No payload is ever printed but by `show --payload`, which writes it as it is and nothing else.

use anyhow::anyhow;
use clap::builder::NonEmptyStringValueParser;

use super::place::PlaceArgs;
use crate::admin::inbox::failure;
use crate::command::decision::ByArg;
use crate::command::table::Table;
use crate::command::{link, output};
use crate::config::Config;
use crate::exit::Failure;

/// `inbox failures …`
#[derive(Debug, clap::Subcommand)]
pub enum FailuresCommand {
    /// List parked messages, those that failed last first.
    List(ListArgs),
    /// Show one failed message.
    Show(ShowArgs),
    /// Let the consumer take a parked message from the table once more; it is recorded.
    Replay(DecideArgs),
    /// Give a failed message up for good; it is recorded.
    Discard(DecideArgs),
}

/// Arguments of `inbox failures list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Of this consumer.
    #[arg(long)]
    consumer: Option<String>,
    /// Also those that are still tried.
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

/// Arguments of `inbox failures show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The message's id, as `failures list` shows it.
    id: String,
    /// The consumer.
    #[arg(long)]
    consumer: String,
    /// Write the payload to standard output, byte for byte, and nothing else.
    #[arg(long)]
    payload: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Arguments of `inbox failures replay` and `discard`.
#[derive(Debug, clap::Args)]
pub struct DecideArgs {
    /// The message's id, as `failures list` shows it.
    id: String,
    /// The consumer.
    #[arg(long)]
    consumer: String,
    /// Why; recorded.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    #[command(flatten)]
    by: ByArg,
    #[command(flatten)]
    place: PlaceArgs,
}

pub(super) async fn run(
    command: FailuresCommand,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    match command {
        FailuresCommand::List(args) => list(args, load).await,
        FailuresCommand::Show(args) => show(args, load).await,
        FailuresCommand::Replay(args) => replay(args, load).await,
        FailuresCommand::Discard(args) => discard(args, load).await,
    }
}

async fn list(
    args: ListArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let (session, schema) = args.place.connect(load).await?;
    let consumer = args.consumer.as_deref();
    let failures = failure::list(&session, &schema, consumer, args.all, args.limit).await;
    let failures = failures.map_err(link::in_database)?;
    Ok(output::answer(args.json, &failures, || render(&failures))?)
}

async fn show(
    args: ShowArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let (session, schema) = args.place.connect(load).await?;
    let missing = || {
        anyhow!("message {} has not failed\nhint: outbox-relay inbox failures list --all", args.id)
    };
    if args.payload {
        let payload = failure::payload(&session, &schema, &args.consumer, &args.id).await;
        let payload = payload.map_err(link::in_database)?.ok_or_else(missing)?;
        return Ok(output::print(&payload.unwrap_or_default())?);
    }
    let found = failure::show(&session, &schema, &args.consumer, &args.id).await;
    let found = found.map_err(link::in_database)?.ok_or_else(missing)?;
    Ok(output::answer(true, &found, String::new)?)
}

async fn replay(
    args: DecideArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let (session, schema) = args.place.connect(load).await?;
    let DecideArgs { id, consumer, reason, by, .. } = args;
    let replayed = failure::replay(&session, &schema, &consumer, &id, &reason, by.name()).await;
    if !replayed.map_err(link::in_database)? {
        let hint =
            "only what is parked and was kept can be replayed; send it again through its broker";
        return Err(anyhow!("{consumer} cannot take {id} from the table\nhint: {hint}").into());
    }
    let text = format!("{consumer} takes {id} at its next look (Inbox::process_replay)\n");
    Ok(output::print(text.as_bytes())?)
}

async fn discard(
    args: DecideArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let (session, schema) = args.place.connect(load).await?;
    let DecideArgs { id, consumer, reason, by, .. } = args;
    let discarded = failure::discard(&session, &schema, &consumer, &id, &reason, by.name()).await;
    if !discarded.map_err(link::in_database)? {
        let hint = "outbox-relay inbox failures list --all";
        return Err(anyhow!("{id} has not failed at {consumer}\nhint: {hint}").into());
    }
    Ok(output::print(format!("{id} is discarded\n").as_bytes())?)
}

fn render(failures: &[failure::Failure]) -> String {
    if failures.is_empty() {
        return "nothing waits\n".to_owned();
    }
    let head = ["CONSUMER", "MESSAGE", "ATTEMPTS", "CLASS", "FAILED", "STATE", "ERROR"];
    let mut table = Table::new(&head);
    for row in failures {
        let state = match (&row.parked_at, row.replaying) {
            (_, true) => "replaying",
            (Some(_), false) => "parked",
            (None, false) => "retrying",
        };
        table.row(&[
            row.consumer.clone(),
            row.message_id.clone(),
            row.attempts.to_string(),
            row.class.clone(),
            row.last_failed_at.clone(),
            state.to_owned(),
            row.error.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}
