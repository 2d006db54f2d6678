//! docs/metrics.md has every metric, and the alert rules ask for nothing else. A rule about a name that
//! nobody emits never fires, and looks like peace.

use std::collections::BTreeSet;

use super::metric::{ALL, Kind, LIMITS};
use crate::board::State;

const PAGE: &str = include_str!("../../../docs/metrics.md");
const RULES: &str = include_str!("../../../docs/alerts/relay.yml");

#[test]
fn the_page_has_every_metric_and_no_other() {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `outbox_relay_"));
    let written: Vec<Vec<&str>> =
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let mut names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), ALL.len());
    for row in written {
        let name = row[0].trim_matches('`');
        assert!(names.remove(name), "{name} is no metric, or stands there twice");
        let metric = ALL.iter().find(|metric| metric.name == name).unwrap();
        let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
        assert_eq!(row[1], kind, "{name}");
        assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let labels: Vec<_> = row[2].split('`').skip(1).step_by(2).collect();
        assert_eq!(labels, metric.labels, "{name}");
    }
    assert!(names.is_empty(), "not on the page: {names:?}");
    for word in State::WORDS.iter().chain(&LIMITS) {
        assert!(PAGE.contains(&format!("`{word}`")), "{word} is not explained");
    }
}

#[test]
fn the_rules_ask_for_what_is_emitted() {
    let selectors = selectors();
    assert!(selectors.len() > 12, "{selectors:?}");
    for (name, matchers) in selectors {
        let metric = ALL.iter().find(|metric| metric.name == name);
        let metric = metric.unwrap_or_else(|| panic!("nobody emits {name}"));
        for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
            let (label, value) = matcher.split_once(['=', '!']).unwrap();
            assert!(metric.labels.contains(&label.trim()), "{name} has no label {label}");
            let value = value.trim_start_matches(['=', '~']).trim_matches('"');
            let known = |value| State::WORDS.iter().chain(&LIMITS).any(|word| *word == value);
            assert!(value.split('|').all(known), "{name} never has {label}={value:?}");
        }
    }
}

#[test]
fn every_alert_says_where_to_read_on() {
    let after = |key: &'static str| {
        RULES.lines().filter_map(move |line| line.trim_start().strip_prefix(key))
    };
    let (alerts, pages): (Vec<_>, Vec<_>) =
        (after("- alert: ").collect(), after("runbook: ").collect());
    assert_eq!(alerts.len(), pages.len());
    for (alert, page) in alerts.iter().zip(pages) {
        assert_eq!(page, format!("docs/metrics.md#{}", alert.to_lowercase()));
        assert!(PAGE.contains(&format!("\n### {alert}\n")), "{alert} is not explained");
    }
}

/// What the rules select: a name, and what stands in its braces.
fn selectors() -> Vec<(String, String)> {
    let is_for_people = |line: &&str| {
        let line = line.trim_start();
        ["#", "summary:", "runbook:", "- name:", "- record:"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    let text: Vec<_> = RULES.lines().filter(|line| !is_for_people(line)).collect();
    let text = text.join("\n");
    let mut found = Vec::new();
    for (at, _) in text.match_indices("outbox_relay_") {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let braces = rest[end..].strip_prefix('{').and_then(|inside| inside.split_once('}'));
        found.push((rest[..end].to_owned(), braces.map_or("", |(inside, _)| inside).to_owned()));
    }
    found
}
