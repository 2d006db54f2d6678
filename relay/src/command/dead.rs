//! `outbox-relay dead list | show | requeue | discard`: what could not be sent, and what to do with it.
//!
//! No payload is ever printed but by `show --payload`, which writes it as it is and nothing else.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::anyhow;

use super::decision::{ByArg, DecisionArgs};
use super::table::{Table, printable};
use super::{age, link, output};
use crate::admin::dead::{self, Changed, DeadMessage, DeadRow, Filter};
use crate::config::Config;
use crate::decision::Decision;
use crate::exit::Failure;

/// `dead …`
#[derive(Debug, clap::Subcommand)]
pub enum DeadCommand {
    /// List dead messages, those that died last first.
    List(ListArgs),
    /// Show one dead message.
    Show(ShowArgs),
    /// Send dead messages again, from the first attempt on.
    Requeue(RequeueArgs),
    /// Give dead messages up for good; who decided it is recorded.
    Discard(DiscardArgs),
}

/// Which dead messages.
#[derive(Debug, Default, clap::Args)]
pub struct FilterArgs {
    /// With this id; can be repeated.
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<i64>,
    /// With this ordering key.
    #[arg(long)]
    key: Option<String>,
    /// With this topic.
    #[arg(long)]
    topic: Option<String>,
    /// With this text in the reason.
    #[arg(long, value_name = "TEXT")]
    reason_contains: Option<String>,
    /// That died at least so long ago.
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    older_than: Option<Duration>,
    /// That died at most so long ago.
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    newer_than: Option<Duration>,
}

/// Arguments of `dead list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Of this target.
    #[arg(long)]
    target: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many.
    #[arg(long, value_name = "ROWS", default_value_t = 100,
          value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `dead show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The target.
    #[arg(long)]
    target: String,
    /// The message's row id.
    #[arg(long)]
    id: i64,
    /// Write the payload to standard output, byte for byte, and nothing else.
    #[arg(long, conflicts_with = "json")]
    payload: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `dead requeue`.
#[derive(Debug, clap::Args)]
pub struct RequeueArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    decision: DecisionArgs,
}

/// Arguments of `dead discard`.
#[derive(Debug, clap::Args)]
pub struct DiscardArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Why; recorded.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    by: ByArg,
}

/// What is requeued or discarded.
#[derive(Debug, clap::Args)]
pub struct ChoiceArgs {
    /// The target; no other is concerned.
    #[arg(long)]
    target: String,
    #[command(flatten)]
    filter: FilterArgs,
    /// Every dead message of the target.
    #[arg(long)]
    all: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands.
///
/// # Errors
/// No such message or target, nothing chosen, the database cannot be reached or refuses.
pub async fn run(command: DeadCommand, config: &Config) -> Result<(), Failure> {
    match command {
        DeadCommand::List(args) => list(args, config).await,
        DeadCommand::Show(args) => show(args, config).await,
        DeadCommand::Requeue(args) => requeue(args, config).await,
        DeadCommand::Discard(args) => discard(args, config).await,
    }
}

async fn list(args: ListArgs, config: &Config) -> Result<(), Failure> {
    let (session, schema) = link::connect(config, "outbox-relay dead list").await?;
    if let Some(target) = &args.target {
        link::expect_target(&session, &schema, target, config).await?;
    }
    let filter = args.filter.filter(args.target);
    let rows = dead::list(&*session, &schema, &filter, args.limit).await;
    let rows = rows.map_err(link::in_database)?;
    Ok(output::answer(args.json, &rows, || render_list(&rows, args.limit))?)
}

async fn show(args: ShowArgs, config: &Config) -> Result<(), Failure> {
    let (session, schema) = link::connect(config, "outbox-relay dead show").await?;
    let ShowArgs { target, id, payload, json } = args;
    link::expect_target(&session, &schema, &target, config).await?;
    let missing = || {
        anyhow!(
            "message {id} is not dead for target {target:?}\n\
             hint: outbox-relay dead list --target {target}"
        )
    };
    if payload {
        let payload = dead::payload(&*session, &schema, &target, id).await;
        let payload = payload.map_err(link::in_database)?.ok_or_else(missing)?;
        return Ok(output::print(&payload.unwrap_or_default())?);
    }
    let message = dead::show(&*session, &schema, &target, id).await;
    let message = message.map_err(link::in_database)?.ok_or_else(missing)?;
    Ok(output::answer(json, &message, || render_message(&message))?)
}

async fn requeue(args: RequeueArgs, config: &Config) -> Result<(), Failure> {
    let RequeueArgs { choice, decision } = args;
    let filter = choice.filter()?;
    let (mut session, schema) = link::connect(config, "outbox-relay dead requeue").await?;
    let (target, decision, dry_run) = (&choice.target, decision.decision(), choice.dry_run);
    let changed = dead::requeue(&mut session, &schema, target, &filter, &decision, dry_run);
    choice.print("requeued", &changed.await.map_err(link::in_admin)?)
}

async fn discard(args: DiscardArgs, config: &Config) -> Result<(), Failure> {
    let DiscardArgs { choice, reason, by } = args;
    let filter = choice.filter()?;
    let (mut session, schema) = link::connect(config, "outbox-relay dead discard").await?;
    link::expect_target(&session, &schema, &choice.target, config).await?;
    let decision = Decision { by: by.name(), reason: Some(&reason) };
    let (target, dry_run) = (&choice.target, choice.dry_run);
    let changed = dead::discard(&mut session, &schema, target, &filter, &decision, dry_run);
    choice.print("discarded", &changed.await.map_err(link::in_admin)?)
}

impl FilterArgs {
    fn filter(&self, target: Option<String>) -> Filter {
        Filter {
            target,
            ids: self.ids.clone(),
            key: self.key.clone(),
            topic: self.topic.clone(),
            reason: self.reason_contains.clone(),
            older_than: self.older_than,
            newer_than: self.newer_than,
        }
    }
}

impl ChoiceArgs {
    /// A whole target is chosen only by saying so.
    fn filter(&self) -> Result<Filter, Failure> {
        let filter = self.filter.filter(Some(self.target.clone()));
        if filter.is_whole_target() && !self.all {
            return Err(Failure::Usage(anyhow!(
                "nothing was chosen\nhint: --id, --key, --topic, --reason-contains, \
                 --older-than, --newer-than, or --all"
            )));
        }
        Ok(filter)
    }

    fn print(&self, done: &str, changed: &Changed) -> Result<(), Failure> {
        Ok(output::answer(self.json, changed, || render_changed(done, self.dry_run, changed))?)
    }
}

/// The table of `dead list`.
#[must_use]
pub fn render_list(rows: &[DeadRow], limit: i64) -> String {
    if rows.is_empty() {
        return "no dead messages\n".to_owned();
    }
    let mut table =
        Table::new(&["TARGET", "ID", "DIED", "ATTEMPTS", "BYTES", "TOPIC", "KEY", "REASON"]);
    for row in rows {
        let state = if row.requeued { "(requeued) " } else { "" };
        table.row(&[
            row.target.clone(),
            row.id.to_string(),
            row.died_at.to_string(),
            row.attempts.to_string(),
            row.payload_bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
            row.topic.clone(),
            row.key.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{state}{}", row.reason),
        ]);
    }
    let mut text = table.render();
    if i64::try_from(rows.len()).is_ok_and(|rows| rows >= limit) {
        text.push_str("there may be more; hint: --limit\n");
    }
    text
}

/// The lines of `dead show`.
#[must_use]
pub fn render_message(message: &DeadMessage) -> String {
    let DeadMessage { row, headers } = message;
    let absent = || "-".to_owned();
    let payload = row.payload_bytes.map_or_else(absent, |bytes| format!("{bytes} bytes"));
    let lines = [
        ("target", row.target.clone()),
        ("id", row.id.to_string()),
        ("message id", row.message_id.to_string()),
        ("topic", row.topic.clone()),
        ("type", row.kind.clone().unwrap_or_else(absent)),
        ("key", row.key.clone().unwrap_or_else(absent)),
        ("headers", headers.as_ref().map_or_else(absent, ToString::to_string)),
        ("payload", payload),
        ("written", row.created_at.to_string()),
        ("died", row.died_at.to_string()),
        ("attempts", row.attempts.to_string()),
        ("class", row.class.clone()),
        ("reason", row.reason.clone()),
        ("requeued", if row.requeued { "yes" } else { "no" }.to_owned()),
    ];
    let mut text = String::new();
    for (name, value) in lines {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:10}  {}", printable(&value, usize::MAX));
    }
    text
}

/// The lines of `dead requeue` and `dead discard`.
#[must_use]
pub fn render_changed(done: &str, dry_run: bool, changed: &Changed) -> String {
    let would = if dry_run { "would be " } else { "" };
    let mut text = format!("{} messages {would}{done}", changed.rows);
    text.push_str(&output::ids(&changed.ids, changed.rows));
    text.push('\n');
    if changed.more {
        text.push_str("there may be more; hint: run it again\n");
    }
    text
}
