//! `outbox-relay status`: where each target stands, what holds what back.

use std::fmt::Write as _;
use std::time::Duration;

use time::OffsetDateTime;

use super::age::{self, age};
use super::hold::{parked_line, why};
use super::table::{Table, printable};
use super::{link, output};
use crate::admin::backend::Backend;
use crate::admin::rfc3339;
use crate::admin::status::{self, Count, Status, TargetStatus};
use crate::admin::unrouted::{self, Unsent};
use crate::config::Config;
use crate::exit::Failure;
use crate::keeper::horizon::Held;
use crate::schema::PLACE_HINT;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// How long to measure the rate; 0s: not at all.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = age::parse)]
    sample: Duration,
}

/// Prints the status.
///
/// # Errors
/// The database cannot be reached or refuses.
pub async fn run(args: StatusArgs, config: &Config) -> Result<(), Failure> {
    let (mut session, schema) = link::connect(config, "outbox-relay status").await?;
    let names: Vec<String> = config.targets.iter().map(|target| target.name.clone()).collect();
    let keep = config.retention.keep;
    let status = status::status(&mut session, &schema, &names, keep, args.sample).await;
    let status = status.map_err(link::in_database)?;
    Ok(output::answer(args.json, &status, || render(&status, config.source.dead_ranges_max))?)
}

/// The status for people.
#[must_use]
pub fn render(status: &Status, dead_ranges_max: usize) -> String {
    let mut table = Table::new(&[
        "TARGET",
        "PENDING",
        "OLDEST",
        "RETRY",
        "DEAD",
        "HOLES",
        "SETTLED/S",
        "MARKED",
        "LEADER",
    ]);
    for target in &status.targets {
        table.row(&cells(target));
    }
    let configured =
        |name: &str| status.targets.iter().any(|target| target.name == name && target.configured);
    let keeper = status.keeper.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    let mut lines = vec![
        ("keeper", keeper),
        ("last id", status.last_id.to_string()),
        ("floor", format!("{}; {}", status.floor, held(&status.held, configured))),
    ];
    lines.extend(status.writers.iter().map(|writer| ("open", open(writer, status.at))));
    for target in &status.targets {
        lines.extend(set_aside(target).map(|line| ("retry", line)));
        lines.extend(target.parked.iter().map(|parked| {
            let waited = (status.at - parked.oldest).as_seconds_f64();
            ("parked", parked_line(parked, waited))
        }));
        lines.extend(unsent(target).map(|line| ("unrouted", line)));
    }
    lines.extend(warnings(status, dead_ranges_max).into_iter().map(|text| ("warning", text)));

    let mut text = table.render();
    text.push('\n');
    for (name, line) in lines {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:8} {}", printable(&line, usize::MAX));
    }
    text
}

/// A transaction that has written to the outbox and is not over.
fn open(writer: &Backend, now: OffsetDateTime) -> String {
    match writer.since {
        Some(since) => {
            let open_s = (now - since).as_seconds_f64().max(0.0);
            format!("{writer}: open for {}, its ids are waited for", age(open_s))
        }
        None => format!("{writer}: its ids are waited for; for its age GRANT pg_read_all_stats"),
    }
}

/// Topics that are named in one line.
const TOPICS_MAX: usize = 10;

/// What the target did not take once and takes now.
fn unsent(target: &TargetStatus) -> Option<String> {
    let name = &target.name;
    let topic = |unsent: &Unsent| unrouted::named(&unsent.topic, unsent.r#type.as_deref());
    let topics = listed(target.unsent.iter().map(topic))?;
    Some(format!(
        "{name}: settled unsent before its routes took it: {topics}; \
         hint: outbox-relay replay --target {name} --unrouted"
    ))
}

/// The first few, and how many more; `None` of none.
pub(super) fn listed(mut topics: impl ExactSizeIterator<Item = String>) -> Option<String> {
    let count = topics.len();
    let first: Vec<String> = topics.by_ref().take(TOPICS_MAX).collect();
    let more = count - first.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (count > 0).then(|| first.join("; ") + &more)
}

/// What stands in `retry`, by what it waits for.
fn set_aside(target: &TargetStatus) -> Option<String> {
    let words = |(class, rows): (&String, &i64)| format!("{rows} {}", why(class));
    let classes: Vec<String> = target.retry.iter().map(words).collect();
    (!classes.is_empty()).then(|| format!("{}: {}", target.name, classes.join(", ")))
}

fn cells(target: &TargetStatus) -> [String; 9] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let retry: i64 = target.retry.values().sum();
    [
        target.name.clone(),
        or_dash(target.started.then(|| count(target.pending))),
        or_dash(target.oldest_pending_s.map(age)),
        retry.to_string(),
        target.dead.to_string(),
        target.open_holes.ranges.to_string(),
        or_dash(target.settled_per_s.map(|rate| format!("{rate:.0}"))),
        or_dash(target.marked_at.map(rfc3339)),
        target.leader.as_ref().map_or_else(|| "none".to_owned(), leader),
    ]
}

pub(super) fn leader(leader: &Backend) -> String {
    let pid = leader.pid.map_or_else(String::new, |pid| format!("pid {pid}"));
    match &leader.client {
        Some(client) => format!("{pid} at {client}"),
        None => pid,
    }
}

/// For people: a count that was cut says so.
pub(super) fn count(count: Count) -> String {
    if count.at_least { format!("≥ {}", count.rows) } else { count.rows.to_string() }
}

/// What keeps the floor where it is.
pub(super) fn held(held: &Held, configured: impl Fn(&str) -> bool) -> String {
    let whose = |target: &str| {
        format!("target {target}{}", if configured(target) { "" } else { " (not configured)" })
    };
    match held {
        Held::Nothing => "everything is settled".to_owned(),
        Held::NoLedger => "no target has a ledger, nothing is deleted".to_owned(),
        Held::IdentityWentBack { last_id, .. } => {
            format!(
                "stopped, the identity went back to {last_id}; `outbox-relay check` has the remedy"
            )
        }
        Held::Pending { target, id } => format!("held by {}: {id} is pending", whose(target)),
        Held::OpenHole { target, id } => format!("held by {}: {id} is an open hole", whose(target)),
        Held::Keep { target } => format!("the rest is younger than keep, by {}", whose(target)),
        Held::ClockWentBack { target } => format!(
            "held by {}: its last watermark lies in the future, the database's clock was set back",
            whose(target)
        ),
        Held::DeadRanges { id } => format!("held at {id} by dead_ranges_max for one round"),
    }
}

fn warnings(status: &Status, dead_ranges_max: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(moved) = &status.moved {
        warnings.push(format!("no relay leads: {moved}; hint: {PLACE_HINT}"));
    }
    if status.late_rows > 0 {
        warnings.push(format!(
            "{} late rows were found so far: given up, and committed; they are delivered out of order",
            status.late_rows
        ));
    }
    let untaken = status.untaken.as_deref().unwrap_or_default();
    if let Some(topics) = listed(untaken.iter().map(ToString::to_string)) {
        warnings.push(format!(
            "no target takes {topics}: the messages are settled and go nowhere; \
             hint: is the topic misspelt? else add a route, then outbox-relay replay --unrouted"
        ));
    }
    for target in &status.targets {
        let name = &target.name;
        if !target.configured {
            warnings.push(format!(
                "target {name} is not configured and holds retention back; \
                 hint: outbox-relay target remove {name}"
            ));
        } else if !target.started {
            warnings.push(format!("target {name} has no ledger yet; its first run makes it"));
        } else if target.leader.is_none() {
            warnings.push(format!("no relay works on target {name}"));
        }
        if usize::try_from(target.dead_ranges).is_ok_and(|ranges| ranges > dead_ranges_max) {
            warnings.push(format!(
                "target {name} has {} dead ranges, more than dead_ranges_max; \
                 hint: a shorter keep, or fewer rollbacks after the insert",
                target.dead_ranges
            ));
        }
    }
    for intruder in &status.intruders {
        warnings.push(format!("{intruder}; hint: {}", intruder.remedy()));
    }
    for trouble in &status.troubles {
        let hint = trouble.hint.as_ref().map_or_else(String::new, |hint| format!("; hint: {hint}"));
        let (part, since) = (&trouble.part, age(trouble.age_s));
        warnings.push(format!("keeper, {part}, for {since}: {}{hint}", trouble.reason));
    }
    if status.keeper.is_none() {
        warnings.push("there is no keeper, nothing is deleted".to_owned());
    }
    warnings
}
