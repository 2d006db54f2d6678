//! `outbox-relay target list | remove | move | rename`: which targets there are, and what becomes of one
//! and its progress.

mod remove;

use super::decision::DecisionArgs;
use super::status::leader;
use super::table::Table;
use super::{link, output, unless_confirmed};
use crate::admin::rfc3339;
use crate::admin::target::{self, Listed, Moved, Renamed};
use crate::config::Config;
use crate::exit::Failure;

/// `target …`
#[derive(Debug, clap::Subcommand)]
pub enum TargetCommand {
    /// List the targets of the outbox and of the configuration.
    List(ListArgs),
    /// End a target: delete its ledger, holes, retry rows and watermarks.
    Remove(remove::RemoveArgs),
    /// Let a target go on where its configuration leads now, another broker than before: what is
    /// settled is not sent again.
    Move(MoveArgs),
    /// Give a target another name, and its progress with it. Without this a target of a new name
    /// sends everything again.
    Rename(RenameArgs),
}

/// Arguments of `target list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `target move`.
#[derive(Debug, clap::Args)]
pub struct MoveArgs {
    /// The target's name.
    name: String,
    /// Do it; without this, only say what would be done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    decision: DecisionArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `target rename`.
#[derive(Debug, clap::Args)]
pub struct RenameArgs {
    /// The target's name.
    old: String,
    /// The name that it gets.
    new: String,
    /// Do it; without this, only say what would be done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    decision: DecisionArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Carries out what was asked for.
///
/// # Errors
/// A relay works on the target; there is no such target; `--yes` is missing (nothing was changed);
/// the database cannot be reached or refuses.
pub async fn run(command: TargetCommand, config: &Config) -> Result<(), Failure> {
    match command {
        TargetCommand::List(args) => list(args, config).await,
        TargetCommand::Remove(args) => remove::run(args, config).await,
        TargetCommand::Move(args) => relocate(args, config).await,
        TargetCommand::Rename(args) => rename(args, config).await,
    }
}

async fn list(args: ListArgs, config: &Config) -> Result<(), Failure> {
    let (session, schema) = link::connect(config, "outbox-relay target list").await?;
    let configured: Vec<&str> = config.targets.iter().map(|t| t.name.as_str()).collect();
    let listed = target::list(&*session, &schema, &configured).await.map_err(link::in_database)?;
    Ok(output::answer(args.json, &listed, || render_list(&listed))?)
}

fn render_list(targets: &[Listed]) -> String {
    let mut table = Table::new(&["TARGET", "CONFIGURED", "LEDGER", "MARKED", "LEADER"]);
    for target in targets {
        table.row(&[
            target.name.clone(),
            if target.configured { "yes" } else { "no" }.to_owned(),
            if target.started { "yes" } else { "none yet" }.to_owned(),
            target.marked_at.map_or_else(|| "-".to_owned(), rfc3339),
            target.leader.as_ref().map_or_else(|| "none".to_owned(), leader),
        ]);
    }
    table.render()
}

async fn relocate(args: MoveArgs, config: &Config) -> Result<(), Failure> {
    let (mut session, schema) = link::connect(config, "outbox-relay target move").await?;
    let (name, decision) = (args.name.as_str(), args.decision.decision());
    let moved = target::relocate(&mut session, &schema, name, &decision, !args.yes).await;
    let moved = moved.map_err(link::in_admin)?;
    output::answer(args.json, &moved, || {
        let Moved { from } = &moved;
        let from = from.as_deref().unwrap_or("a place that was not known");
        let (goes, goes_on) = match args.yes {
            true => ("leaves", "goes on"),
            false => ("would leave", "would go on"),
        };
        format!(
            "target {name} {goes} {from}\n\
             its next run {goes_on} where its configuration leads, with what is pending\n"
        )
    })?;
    unless_confirmed(args.yes)
}

async fn rename(args: RenameArgs, config: &Config) -> Result<(), Failure> {
    let (mut session, schema) = link::connect(config, "outbox-relay target rename").await?;
    let (old, new) = (args.old.as_str(), args.new.as_str());
    let decision = args.decision.decision();
    let renamed = target::rename(&mut session, &schema, old, new, &decision, !args.yes).await;
    let renamed = renamed.map_err(link::in_admin)?;
    let configured = |name: &str| config.targets.iter().any(|target| target.name == name);
    output::answer(args.json, &renamed, || {
        let Renamed { rows } = &renamed;
        let would = if args.yes { "" } else { "would be " };
        let mut text = format!("target {old} {would}renamed to {new}: {rows} rows\n");
        if configured(old) || !configured(new) {
            text.push_str(&format!(
                "in the configuration, rename [target.{old}] to [target.{new}] before the next run\n"
            ));
        }
        text
    })?;
    unless_confirmed(args.yes)
}
