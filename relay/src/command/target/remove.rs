//! `outbox-relay target remove`: ends a target for good.

use crate::admin::target::{self, Removed};
use crate::command::decision::DecisionArgs;
use crate::command::{link, output, unless_confirmed};
use crate::config::Config;
use crate::exit::Failure;

/// Arguments of `target remove`.
#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    /// The target's name.
    name: String,
    /// Delete its dead messages as well.
    #[arg(long)]
    purge_dead: bool,
    /// Do it; without this, only say what would be done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    decision: DecisionArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Removes the target.
///
/// # Errors
/// A relay works on it; there is no such target; `--yes` is missing (nothing was changed); the
/// database cannot be reached or refuses.
pub(super) async fn run(args: RemoveArgs, config: &Config) -> Result<(), Failure> {
    let (mut session, schema) = link::connect(config, "outbox-relay target remove").await?;
    let (name, dry_run) = (args.name.as_str(), !args.yes);
    let (purge_dead, decision) = (args.purge_dead, args.decision.decision());
    let removed = target::remove(&mut session, &schema, name, purge_dead, &decision, dry_run).await;
    let removed = removed.map_err(link::in_admin)?;
    let configured = config.targets.iter().any(|target| target.name == args.name);
    output::answer(args.json, &removed, || render(&args, configured, &removed))?;
    unless_confirmed(args.yes)
}

fn render(args: &RemoveArgs, configured: bool, removed: &Removed) -> String {
    let Removed { retry_rows, hole_rows, dead_rows } = removed;
    let name = &args.name;
    let (would, never) = match args.yes {
        true => ("", "are never"),
        false => ("would be ", "would never be"),
    };
    let dead = if args.purge_dead { "deleted" } else { "kept" };
    let mut text = format!(
        "target {name} {would}removed\n\
         {retry_rows} messages set aside for it {never} sent to it\n\
         {hole_rows} rows of holes {would}deleted\n\
         {dead_rows} dead messages {would}{dead}\n"
    );
    if configured {
        text.push_str("it is configured: the next run makes it again, as a new target\n");
    }
    text
}
