//! `outbox-relay replay`: sends settled messages to one target once more.

use std::fmt::Write as _;

use anyhow::anyhow;
use time::OffsetDateTime;

use super::decision::DecisionArgs;
use super::{link, moment, output};
use crate::admin::replay::{self, Choice, Replayed, Request};
use crate::config::Config;
use crate::exit::Failure;
use crate::route::{Pattern, Router};

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// The target that gets them; no other is concerned.
    #[arg(long)]
    target: String,
    /// With this id; can be repeated.
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<i64>,
    /// With this ordering key.
    #[arg(long)]
    key: Option<String>,
    /// With such a topic; `*` matches any characters.
    #[arg(long, value_name = "GLOB", value_parser = Pattern::parse)]
    topic: Option<Pattern>,
    /// Settled unsent since no route of the target took it; those that its routes take now are sent.
    #[arg(long)]
    unrouted: bool,
    /// Written then or later: `2026-01-31T08:00:00Z`, or a day in UTC.
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    from: Option<OffsetDateTime>,
    /// Written before.
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    to: Option<OffsetDateTime>,
    /// With an id above this one: goes on where an earlier run has ended.
    #[arg(long, value_name = "ID")]
    after_id: Option<i64>,
    /// Everything that is still there.
    #[arg(long)]
    all: bool,
    /// At most so many.
    #[arg(long, value_name = "ROWS", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    decision: DecisionArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Replays.
///
/// # Errors
/// Nothing chosen, no such target, the database cannot be reached or refuses.
pub async fn run(args: ReplayArgs, config: &Config) -> Result<(), Failure> {
    let choice = choice(&args)?;
    let router = router(&args.target, config)?;
    let (mut session, schema) = link::connect(config, "outbox-relay replay").await?;
    let decision = args.decision.decision();
    let request = Request {
        target: &args.target,
        router: &router,
        choice: &choice,
        rows_max: args.limit,
        dry_run: args.dry_run,
    };
    let replayed = replay::replay(&mut session, &schema, &request, &decision);
    let replayed = replayed.await.map_err(link::in_admin)?;
    Ok(output::answer(args.json, &replayed, || render(args.dry_run, &replayed))?)
}

/// The whole outbox is chosen only by saying so.
fn choice(args: &ReplayArgs) -> Result<Choice, Failure> {
    let narrowed = !args.ids.is_empty()
        || args.key.is_some()
        || args.topic.is_some()
        || args.unrouted
        || args.from.is_some()
        || args.to.is_some();
    if !narrowed && !args.all {
        return Err(Failure::Usage(anyhow!(
            "nothing was chosen\nhint: --id, --key, --topic, --unrouted, --from, --to, or --all"
        )));
    }
    if args.from.zip(args.to).is_some_and(|(from, to)| from >= to) {
        return Err(Failure::Usage(anyhow!(
            "--from is not before --to\nhint: messages written at --from are chosen, those written at --to are not"
        )));
    }
    Ok(Choice {
        ids: args.ids.clone(),
        key: args.key.clone(),
        topic: args.topic.clone(),
        unrouted: args.unrouted,
        from: args.from,
        to: args.to,
        after_id: args.after_id,
    })
}

fn router(target: &str, config: &Config) -> Result<Router, Failure> {
    let configured = config.targets.iter().find(|configured| configured.name == target);
    if let Some(configured) = configured {
        return Ok(Router::new(configured.routes.clone()));
    }
    let names: Vec<&str> = config.targets.iter().map(|target| target.name.as_str()).collect();
    Err(anyhow!(
        "there is no target {target:?} in the configuration\nhint: there are: {}",
        names.join(", ")
    )
    .into())
}

/// The answer for people.
#[must_use]
pub fn render(dry_run: bool, replayed: &Replayed) -> String {
    let Replayed { rows, target, pending, set_aside, unrouted, .. } = replayed;
    let would = if dry_run { "would be" } else { "are" };
    let ids = output::ids(&replayed.ids, *rows);
    let mut text = format!("{rows} messages {would} sent to {target} once more{ids}\n");
    let left_alone = [
        (*pending, "pending: delivered anyway"),
        (*set_aside, "in retry or dead; hint: outbox-relay hold list, outbox-relay dead list"),
        (*unrouted, "taken by no route of the target, here or in the relay that ran last"),
    ];
    // Writing to a String does not fail.
    for (rows, why) in left_alone.into_iter().filter(|&(rows, _)| rows > 0) {
        let _ = writeln!(text, "{rows} left alone, {why}");
    }
    if replayed.missing > 0 {
        let ids = output::ids(&replayed.missing_ids, replayed.missing);
        let _ = writeln!(text, "{} were asked for and are not there{ids}", replayed.missing);
    }
    if replayed.floor > 1 {
        let _ = writeln!(text, "what lies below id {} was deleted by retention", replayed.floor);
    }
    if let Some(id) = replayed.more_after {
        let _ = writeln!(text, "there are more; hint: the same with --after-id {id}");
    }
    if *rows > 0 && !dry_run {
        let _ = writeln!(text, "x-outbox-replay: {}", replayed.replay_id);
    }
    text
}
