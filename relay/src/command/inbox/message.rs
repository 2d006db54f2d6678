//! `outbox-relay inbox lookup | check | forget`: single messages.

use std::fmt::Write as _;
use std::io::BufRead as _;

use anyhow::{Context as _, anyhow};
use clap::builder::NonEmptyStringValueParser;
use outbox_inbox::MessageId;
use serde::Serialize;

use super::place::PlaceArgs;
use crate::admin::inbox::lookup::{self, Known};
use crate::command::decision::ByArg;
use crate::command::table::Table;
use crate::command::{link, output};
use crate::config::Config;
use crate::exit::Failure;

/// Ids of one statement.
const IDS_MAX: usize = 10_000;

/// Arguments of `inbox lookup`.
#[derive(Debug, clap::Args)]
pub struct LookupArgs {
    /// The message's id, as its producer writes it.
    id: String,
    /// Of a CloudEvent without a UUID: its source.
    #[arg(long)]
    source: Option<String>,
    /// At this consumer only.
    #[arg(long)]
    consumer: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `inbox check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The messages' ids.
    ids: Vec<String>,
    /// Read ids from standard input, one a line.
    #[arg(long, conflicts_with = "ids")]
    stdin: bool,
    /// The consumer.
    #[arg(long)]
    consumer: String,
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `inbox forget`.
#[derive(Debug, clap::Args)]
pub struct ForgetArgs {
    /// The message's id.
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

#[derive(Debug, Serialize)]
struct Checked {
    id: String,
    verdict: String,
}

/// As consumers store it.
pub(super) fn stored(id: &str, source: Option<&str>) -> Result<String, Failure> {
    let stored = MessageId::new(id, source).map(|id| id.to_string());
    stored.ok_or_else(|| Failure::Usage(anyhow!("an empty id is none")))
}

pub(super) async fn lookup(
    args: LookupArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let id = stored(&args.id, args.source.as_deref())?;
    let (session, schema) = args.place.connect(load).await?;
    let known = lookup::lookup(&session, &schema, &id, args.consumer.as_deref()).await;
    let known = known.map_err(link::in_database)?;
    Ok(output::answer(args.json, &known, || render(&id, &known))?)
}

pub(super) async fn check(
    args: CheckArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let ids = if args.stdin {
        let lines = std::io::stdin().lock().lines();
        lines.collect::<Result<Vec<_>, _>>().context("reading standard input")?
    } else {
        args.ids
    };
    let ids: Vec<String> = ids
        .iter()
        .map(|id| id.trim())
        .filter(|id| !id.is_empty())
        .map(|id| stored(id, None))
        .collect::<Result<_, _>>()?;
    let (session, schema) = args.place.connect(load).await?;
    let mut checked = Vec::with_capacity(ids.len());
    for ids in ids.chunks(IDS_MAX) {
        let verdicts = lookup::check(&session, &schema, &args.consumer, ids).await;
        let verdicts = verdicts.map_err(link::in_database)?;
        let pairs = ids.iter().cloned().zip(verdicts);
        checked.extend(pairs.map(|(id, verdict)| Checked { id, verdict }));
    }
    Ok(output::answer(args.json, &checked, || render_checked(&checked))?)
}

pub(super) async fn forget(
    args: ForgetArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let id = stored(&args.id, None)?;
    let (session, schema) = args.place.connect(load).await?;
    let (consumer, reason) = (&args.consumer, &args.reason);
    let forgotten = lookup::forget(&session, &schema, consumer, &id, reason, args.by.name()).await;
    if !forgotten.map_err(link::in_database)? {
        let hint = "outbox-relay inbox lookup";
        return Err(anyhow!("{consumer} has not processed {id}\nhint: {hint}").into());
    }
    Ok(output::print(format!("{consumer} has forgotten {id}\n").as_bytes())?)
}

fn render(id: &str, known: &[Known]) -> String {
    if known.is_empty() {
        return format!("nothing is known of {id}\n");
    }
    let mut table = Table::new(&["CONSUMER", "STATE", "AT", "ATTEMPTS", "BY", "DETAIL"]);
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for row in known {
        table.row(&[
            row.consumer.clone(),
            row.state.clone(),
            row.at.clone(),
            dash(&row.attempts.map(|n| n.to_string())),
            dash(&row.by),
            dash(&row.detail),
        ]);
    }
    table.render()
}

fn render_checked(checked: &[Checked]) -> String {
    let mut text = String::new();
    for Checked { id, verdict } in checked {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{verdict:9}  {}", crate::command::table::printable(id, usize::MAX));
    }
    let count = |verdict| checked.iter().filter(|checked| checked.verdict == verdict).count();
    let (fresh, duplicate, stale) = (count("fresh"), count("duplicate"), count("stale"));
    let _ = write!(text, "{fresh} fresh, {duplicate} duplicate, {stale} stale");
    let rest = checked.len() - fresh - duplicate - stale;
    // Ids of days that no partition is there for.
    let _ = if rest > 0 { writeln!(text, ", {rest} unusable") } else { writeln!(text) };
    text
}
