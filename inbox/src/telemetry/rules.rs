//! The alert rules ask for what this crate counts, by its names and its labels' values, and say where
//! a person reads on. A rule about a name that nobody emits never fires, and looks like peace.

use crate::cause::Cause;
use crate::error::InboxError;
use crate::handler::Failure;
use crate::http::telemetry::{LEASE_LOST, REQUESTS, UNRECORDED, Verdict as RequestVerdict};
use crate::idempotency::STEP_REPLAYS;
use crate::maintenance::gauge;
use crate::outcome::Park;
use crate::telemetry::metric;
use crate::verdict::Verdict;

const RULES: &str = include_str!("../../../docs/alerts/inbox.yml");
const OPERATION: &str = include_str!("../../../docs/inbox/operation.md");

/// A label, and its values if they are a closed set.
type Label = (&'static str, Vec<&'static str>);

fn emitted(name: &str) -> Option<Vec<Label>> {
    let histogram = ["_count", "_sum", "_bucket"].iter().find_map(|end| name.strip_suffix(end));
    let consumer = ("consumer", vec![]);
    let labels = match histogram.unwrap_or(name) {
        metric::CLAIMS => vec![consumer, ("verdict", verdicts()), ("cause", causes())],
        metric::RETRIES => vec![consumer, ("reason", reasons())],
        metric::PARKED => vec![consumer, ("class", parks())],
        metric::DUPLICATE_EFFECTS => vec![consumer, ("constraint", vec![])],
        metric::HANDLER_DURATION => vec![consumer, ("outcome", outcomes())],
        metric::CLAIM_DURATION | metric::ATTEMPTS => vec![consumer],
        REQUESTS => vec![("route", vec![]), ("verdict", request_verdicts())],
        LEASE_LOST | UNRECORDED => vec![("route", vec![])],
        STEP_REPLAYS => vec![("step", vec![])],
        gauge::PARTITIONS_AHEAD
        | gauge::HORIZON
        | gauge::BYTES
        | gauge::PARKED
        | gauge::MAINTAINED
        | gauge::KEYS_IN_PROGRESS
        | gauge::KEYS_EXPIRED => {
            vec![("inbox", vec![])]
        }
        _ => return None,
    };
    Some(labels)
}

fn verdicts() -> Vec<&'static str> {
    let claimed = [Verdict::Fresh, Verdict::Duplicate, Verdict::Mismatch, Verdict::Stale];
    claimed.map(Verdict::as_str).into_iter().chain(["passthrough"]).collect()
}

fn causes() -> Vec<&'static str> {
    let known = [Cause::Replay, Cause::RelayRetry, Cause::Redelivered, Cause::Unknown];
    known.map(Cause::as_str).into_iter().chain(["first"]).collect()
}

fn parks() -> Vec<&'static str> {
    let all = [
        Park::MissingId,
        Park::Mismatch,
        Park::Stale,
        Park::Future,
        Park::Permanent,
        Park::AlreadyExists,
        Park::Attempts,
    ];
    all.map(Park::as_str).to_vec()
}

fn failures() -> Vec<&'static str> {
    let exists = Failure::Exists { constraint: String::new() };
    [Failure::Transient, Failure::Permanent, Failure::Timeout, exists].map(|f| f.class()).to_vec()
}

fn outcomes() -> Vec<&'static str> {
    [failures(), vec!["ok", "database"]].concat()
}

fn reasons() -> Vec<&'static str> {
    let errors = [
        InboxError::Busy("".into()),
        InboxError::Conflict("".into()),
        InboxError::NoPartition("".into()),
        InboxError::Unavailable("".into()),
        InboxError::CommitUnknown("".into()),
        InboxError::Inbox("".into()),
    ];
    let errors: Vec<_> = errors.iter().map(InboxError::reason).collect();
    [errors, failures()].concat()
}

fn request_verdicts() -> Vec<&'static str> {
    RequestVerdict::ALL.map(RequestVerdict::label).to_vec()
}

/// The selectors of the rules: a name, and what stands in its braces. Comments and words for people are left out.
fn selectors() -> Vec<(String, String)> {
    let is_expression = |line: &&str| {
        let line = line.trim_start();
        !["#", "summary:", "runbook:", "- name:", "- alert:", "- record:"]
            .iter()
            .any(|other| line.starts_with(other))
    };
    let text: Vec<_> = RULES.lines().filter(is_expression).collect();
    let text = text.join("\n");
    let mut found = Vec::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
        rest = &rest[start..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        rest = &rest[end..];
        let labels = rest.strip_prefix('{').and_then(|labels| labels.split_once('}'));
        if name.starts_with("inbox_") || name.starts_with("idempotency_") {
            found.push((name.to_owned(), labels.map_or("", |(inside, _)| inside).to_owned()));
        }
        rest = labels.map_or(rest, |(_, after)| after);
    }
    found
}

#[test]
fn the_rules_ask_for_what_is_emitted() {
    let selectors = selectors();
    assert!(selectors.len() > 30, "{selectors:?}");
    for (name, labels) in selectors {
        let known = emitted(&name);
        let known = known.unwrap_or_else(|| panic!("nobody emits {name}"));
        for matcher in labels.split(',').filter(|matcher| !matcher.is_empty()) {
            let (label, value) = matcher.split_once(['=', '!']).unwrap();
            let values = known.iter().find(|(of, _)| *of == label.trim());
            let values = values.unwrap_or_else(|| panic!("{name} has no label {label}"));
            let value = value.trim_start_matches(['=', '~']).trim_matches('"');
            for value in value.split('|') {
                let is_known = values.1.is_empty() || values.1.contains(&value);
                assert!(is_known, "{name} is never counted with {label}={value:?}");
            }
        }
    }
}

#[test]
fn every_alert_says_where_to_read_on() {
    let names: Vec<_> =
        RULES.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")).collect();
    let pages: Vec<_> =
        RULES.lines().filter_map(|line| line.trim_start().strip_prefix("runbook: ")).collect();
    assert_eq!(names.len(), pages.len());
    let headings: Vec<_> = OPERATION
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|heading| heading.replace(' ', "-").to_lowercase())
        .collect();
    for page in pages {
        let (file, place) = page.split_once('#').unwrap();
        assert_eq!(file, "docs/inbox/operation.md");
        assert!(headings.iter().any(|heading| heading == place), "{page} is not there");
    }
    for name in names {
        assert!(OPERATION.contains(name), "{name} is not explained");
    }
}
