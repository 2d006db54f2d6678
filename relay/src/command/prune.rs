//! `outbox-relay prune`: deletes what every target has settled, now.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::anyhow;

use super::decision::DecisionArgs;
use super::status::held;
use super::{age, link, output};
use crate::admin::prune::{self, Pruned};
use crate::config::Config;
use crate::exit::Failure;
use crate::keeper::retention::Prune;

/// Arguments of `prune`.
#[derive(Debug, clap::Args)]
pub struct PruneArgs {
    /// What all targets have settled at least so long ago.
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    older_than: Option<Duration>,
    /// With a lower id than this.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
    below_id: Option<i64>,
    /// Everything that all targets have settled.
    #[arg(long, conflicts_with_all = ["older_than", "below_id"])]
    all: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    decision: DecisionArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prunes.
///
/// # Errors
/// Nothing chosen, the database cannot be reached or refuses.
pub async fn run(args: PruneArgs, config: &Config) -> Result<(), Failure> {
    if args.older_than.is_none() && args.below_id.is_none() && !args.all {
        return Err(Failure::Usage(anyhow!(
            "nothing was chosen\nhint: --older-than, --below-id, or --all; what is not settled stays in any case"
        )));
    }
    let prune = Prune { older_than: args.older_than.unwrap_or_default(), below_id: args.below_id };
    let decision = args.decision.decision();
    let (mut session, schema) = link::connect(config, "outbox-relay prune").await?;
    let pruned = prune::prune(
        &mut session,
        &schema,
        &config.retention,
        config.source.dead_ranges_max,
        prune,
        &decision,
        args.dry_run,
    );
    let pruned = pruned.await.map_err(link::in_admin)?;
    Ok(output::answer(args.json, &pruned, || render(args.dry_run, &pruned, config))?)
}

fn render(dry_run: bool, pruned: &Pruned, config: &Config) -> String {
    let Pruned { floor_before, floor, deleted, kept, late, held: by } = pruned;
    let would = if dry_run { "would be" } else { "were" };
    let mut text = format!("{deleted} messages {would} deleted\n");
    // Writing to a String does not fail.
    if *kept > 0 {
        let _ = writeln!(text, "{kept} {would} kept, since they stand in retry");
    }
    if *late > 0 {
        let _ = writeln!(text, "{late} late rows were found; they are delivered out of order");
    }
    let configured = |name: &str| config.targets.iter().any(|target| target.name == name);
    let _ = writeln!(text, "floor {floor_before} → {floor}; {}", held(by, configured));
    text
}
