//! `outbox-relay hold list | release | give-up`: which keys and destinations wait, for what, and
//! letting them go, or giving them up.

use std::fmt::Write as _;

use serde::Serialize;

use super::age::age;
use super::decision::DecisionArgs;
use super::status::count;
use super::table::{Table, printable};
use super::{link, output};
use crate::admin::give_up::{self, GivenUp, Which};
use crate::admin::hold::{self, HeldKey, Released};
use crate::admin::parked::{self, Destination};
use crate::admin::rfc3339;
use crate::config::Config;
use crate::exit::Failure;
use crate::route::wait;

/// The part of a broker's answer that a line of `status` shows.
const REASON_CHARS_MAX: usize = 200;

/// `hold …`
#[derive(Debug, clap::Subcommand)]
pub enum HoldCommand {
    /// List what holds keys back, and destinations that are parked.
    List(ListArgs),
    /// Let a key or a parked destination go.
    Release(ReleaseArgs),
    /// Give up what waits: it goes to `dead`, and the later messages of its keys go on.
    GiveUp(GiveUpArgs),
}

/// Arguments of `hold list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Of this target.
    #[arg(long)]
    target: Option<String>,
    /// This ordering key.
    #[arg(long)]
    key: Option<String>,
    /// At most so many keys, and destinations, of each target.
    #[arg(long, value_name = "ROWS", default_value_t = 100,
          value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `hold release`.
#[derive(Debug, clap::Args)]
pub struct ReleaseArgs {
    /// The target; no other is concerned.
    #[arg(long)]
    target: String,
    /// This key: a dead message holds it no longer, and one that waits for its time is due now.
    #[arg(long, required_unless_present = "destination", conflicts_with = "destination")]
    key: Option<String>,
    /// This parked destination, as `hold list` names it: what waits for it is due now.
    #[arg(long)]
    destination: Option<String>,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    decision: DecisionArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `hold give-up`.
#[derive(Debug, clap::Args)]
pub struct GiveUpArgs {
    /// The target; no other is concerned.
    #[arg(long)]
    target: String,
    /// All messages that wait for this destination or route, as `hold list` names it.
    #[arg(long, required_unless_present = "key", conflicts_with = "key")]
    destination: Option<String>,
    /// The message that holds this key.
    #[arg(long)]
    key: Option<String>,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    decision: DecisionArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Holds {
    keys: Vec<HeldKey>,
    destinations: Vec<Destination>,
}

/// Runs one of the commands.
///
/// # Errors
/// No such target, the database cannot be reached or refuses.
pub async fn run(command: HoldCommand, config: &Config) -> Result<(), Failure> {
    match command {
        HoldCommand::List(args) => list(args, config).await,
        HoldCommand::Release(args) => release(args, config).await,
        HoldCommand::GiveUp(args) => give_up(args, config).await,
    }
}

async fn list(args: ListArgs, config: &Config) -> Result<(), Failure> {
    let (session, schema) = link::connect(config, "outbox-relay hold list").await?;
    let targets = match &args.target {
        Some(target) => {
            link::expect_target(&session, &schema, target, config).await?;
            vec![target.clone()]
        }
        None => hold::targets(&*session, &schema).await.map_err(link::in_database)?,
    };
    let mut holds = Holds { keys: Vec::new(), destinations: Vec::new() };
    for target in &targets {
        let keys = hold::list(&*session, &schema, target, args.key.as_deref(), args.limit).await;
        holds.keys.extend(keys.map_err(link::in_database)?);
        if args.key.is_none() {
            let parked = parked::list(&*session, &schema, target, args.limit).await;
            holds.destinations.extend(parked.map_err(link::in_database)?);
        }
    }
    Ok(output::answer(args.json, &holds, || {
        render_list(&holds.keys, &holds.destinations, args.limit)
    })?)
}

async fn release(args: ReleaseArgs, config: &Config) -> Result<(), Failure> {
    let (mut session, schema) = link::connect(config, "outbox-relay hold release").await?;
    let ReleaseArgs { target, key, destination, dry_run, decision, json } = args;
    let decision = decision.decision();
    if let Some(name) = destination {
        let released =
            parked::release(&mut session, &schema, &target, &name, &decision, dry_run).await;
        let released = released.map_err(link::in_admin)?;
        let would = if dry_run { "would be" } else { "are" };
        let text = || format!("{} rows that wait for {name} {would} due\n", released.rows);
        return Ok(output::answer(json, &released, text)?);
    }
    let key = key.unwrap_or_default();
    let released = hold::release(&mut session, &schema, &target, &key, &decision, dry_run);
    let released = released.await.map_err(link::in_admin)?;
    Ok(output::answer(json, &released, || render_released(&key, dry_run, &released))?)
}

async fn give_up(args: GiveUpArgs, config: &Config) -> Result<(), Failure> {
    let (mut session, schema) = link::connect(config, "outbox-relay hold give-up").await?;
    let GiveUpArgs { target, destination, key, dry_run, decision, json } = args;
    let decision = decision.decision();
    let which = match (&destination, &key) {
        (Some(name), _) => Which::Destination(name),
        (None, key) => Which::Key(key.as_deref().unwrap_or_default()),
    };
    let given = give_up::give_up(&mut session, &schema, &target, which, &decision, dry_run);
    let given = given.await.map_err(link::in_admin)?;
    Ok(output::answer(json, &given, || render_given_up(dry_run, &given))?)
}

/// The tables of `hold list`.
#[must_use]
pub fn render_list(keys: &[HeldKey], destinations: &[Destination], limit: i64) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut text = String::new();
    if keys.is_empty() {
        text.push_str("no key is held\n");
    } else {
        let head = ["TARGET", "KEY", "HELD BY", "BEHIND", "WHY", "ATTEMPTS", "NEXT", "REASON"];
        let mut table = Table::new(&head);
        for key in keys {
            table.row(&[
                key.target.clone(),
                key.key.clone(),
                key.id.to_string(),
                count(key.behind),
                key.class.clone(),
                key.attempts.to_string(),
                next(key),
                or_dash(key.reason.clone()),
            ]);
        }
        text.push_str(&table.render());
    }
    if !destinations.is_empty() {
        text.push('\n');
        text.push_str(&render_destinations(destinations));
    }
    let full = |rows: usize| i64::try_from(rows).is_ok_and(|rows| rows >= limit);
    if full(keys.len()) || full(destinations.len()) {
        text.push_str("there may be more; hint: --limit, --target, --key\n");
    }
    text
}

fn render_destinations(destinations: &[Destination]) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let head = ["TARGET", "PARKED", "ROWS", "SINCE", "NEXT", "REASON"];
    let mut table = Table::new(&head).with_whole(1);
    for parked in destinations {
        table.row(&[
            parked.target.clone(),
            parked.destination.clone(),
            parked.rows.to_string(),
            rfc3339(parked.oldest),
            match parked.next_at {
                Some(at) => rfc3339(at),
                None if wait::group(&parked.destination).is_some() => {
                    "when the routes change".to_owned()
                }
                None => "-".to_owned(),
            },
            or_dash(parked.reason.clone()),
        ]);
    }
    let mut text = table.render();
    for parked in destinations {
        let hint = parked.reason.as_deref().and_then(|reason| reason.split_once("; hint: "));
        if let Some((_, hint)) = hint {
            let name = printable(&parked.destination, usize::MAX);
            // Writing to a String does not fail.
            let _ = writeln!(text, "hint for {name}: {}", printable(hint, REASON_CHARS_MAX));
        }
    }
    text
}

/// The class of a row of `retry`, in words: what it waits for.
pub(super) fn why(class: &str) -> &str {
    match class {
        "refused" => "refused and tried again",
        "parked" => "parked for their destination",
        "held" => "behind an earlier one of their key",
        "straggler" => "without an answer yet",
        "poison" => "dead and holding their key",
        "late" => "late and out of order",
        "requeued" => "requeued by a person",
        "replayed" => "replayed by a person",
        other => other,
    }
}

fn next(key: &HeldKey) -> String {
    match (key.next_at, key.class.as_str()) {
        (Some(at), _) => rfc3339(at),
        (None, "poison") => "hold release, dead requeue or dead discard".to_owned(),
        (None, _) if key.destination.as_deref().is_some_and(|d| wait::group(d).is_some()) => {
            "when the routes change".to_owned()
        }
        (None, _) if key.destination.is_some() => "with its destination".to_owned(),
        (None, _) => "-".to_owned(),
    }
}

/// The line of `hold release --key`.
#[must_use]
pub fn render_released(key: &str, dry_run: bool, released: &Released) -> String {
    let Some(head) = released.head else { return format!("key {key:?} is not held\n") };
    let (would, would_hold) = match dry_run {
        true => ("would be", "would hold"),
        false => ("is", "holds"),
    };
    let mut text = String::new();
    if released.let_go {
        // Writing to a String does not fail.
        let _ = writeln!(text, "message {head} {would_hold} key {key:?} no longer; it stays dead");
    }
    let _ = match released.due {
        Some(id) if released.rows == 0 => {
            writeln!(text, "message {id} of key {key:?} is due already")
        }
        Some(id) => writeln!(text, "message {id} of key {key:?} {would} due now"),
        None => writeln!(text, "no other message of the key is made due by that"),
    };
    text
}

/// The lines of `hold give-up`.
#[must_use]
pub fn render_given_up(dry_run: bool, given: &GivenUp) -> String {
    let (would, due) = if dry_run { ("would go", "would be") } else { ("went", "are") };
    let mut text = format!("{} messages {would} to dead", given.rows);
    // Writing to a String does not fail.
    let _ = match given.due {
        0 => writeln!(text),
        rows => writeln!(text, "; {rows} that waited behind them {due} due"),
    };
    if given.left > 0 {
        let _ = writeln!(
            text,
            "{} others are being tried at this moment; hint: run it again",
            given.left
        );
    }
    text
}

/// A destination as `status` says it.
pub(super) fn parked_line(parked: &Destination, waited_s: f64) -> String {
    let mut text = format!(
        "{}: {} rows wait for {}, the oldest for {}",
        parked.target,
        parked.rows,
        printable(&parked.destination, usize::MAX),
        age(waited_s)
    );
    if let Some(reason) = &parked.reason {
        // Writing to a String does not fail.
        let _ = write!(text, ": {}", printable(reason, REASON_CHARS_MAX));
    }
    text
}
