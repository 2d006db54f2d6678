//! `outbox-relay ledger rebuild`: everything that is not provably settled is pending again.

use std::fmt::Write as _;

use super::decision::DecisionArgs;
use super::status::count;
use super::{link, output, unless_confirmed};
use crate::admin::rebuild::{self, Rebuilt};
use crate::config::Config;
use crate::exit::Failure;

/// `ledger …`
#[derive(Debug, clap::Subcommand)]
pub enum LedgerCommand {
    /// Make everything pending for a target that is not provably settled.
    Rebuild(RebuildArgs),
}

/// Arguments of `ledger rebuild`.
#[derive(Debug, clap::Args)]
pub struct RebuildArgs {
    /// The target; no other is concerned.
    #[arg(long)]
    target: String,
    /// Do it; without this, only say what would be done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    decision: DecisionArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Rebuilds the ledger.
///
/// # Errors
/// A relay works on it; there is no such target; `--yes` is missing (nothing was changed); the
/// database cannot be reached or refuses.
pub async fn run(command: LedgerCommand, config: &Config) -> Result<(), Failure> {
    let LedgerCommand::Rebuild(args) = command;
    let (mut session, schema) = link::connect(config, "outbox-relay ledger rebuild").await?;
    let decision = args.decision.decision();
    let rebuilt = rebuild::rebuild(&mut session, &schema, &args.target, &decision, !args.yes).await;
    let rebuilt = rebuilt.map_err(link::in_admin)?;
    output::answer(args.json, &rebuilt, || render(&args, &rebuilt))?;
    unless_confirmed(args.yes)
}

fn render(args: &RebuildArgs, rebuilt: &Rebuilt) -> String {
    let would = if args.yes { "are" } else { "would be" };
    let mut text = format!(
        "target {}: {} messages {would} pending, what lies below {} is settled\n\
         {} rows of holes, {} retry rows and {} dead messages {would} replaced by that\n",
        args.target,
        count(rebuilt.pending),
        rebuilt.settled_below,
        rebuilt.hole_rows,
        rebuilt.retry_rows,
        rebuilt.dead_rows
    );
    if rebuilt.floor_restarted {
        text.push_str("the identity had gone back: the floor begins at 1 again\n");
    }
    for other in &rebuilt.others {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "warning: the ledger of {other} knows ids that will be drawn again; \
             hint: outbox-relay ledger rebuild --target {other}"
        );
    }
    text
}
