//! The environment: what `${VAR}` stands for, and overrides of single keys.
//!
//! `OUTBOX_RELAY__TARGET__ORDERS__URL` is `target.orders.url`: upper case, tables joined by two
//! underscores. A key that is an array or a table (`route`, `properties`) is written as TOML.
//! `config::Environment` is not used: it names no variable in an error, reads no arrays, and
//! lower-cases keys so that a misspelled one becomes a second key without a word.

use std::collections::BTreeMap;
use std::ffi::OsString;

use config::{Map, Value, ValueKind};

use super::document;
use super::place::{Place, Places, join, parent};
use super::report::{Report, variable};

/// What the name of an override begins with.
pub(super) const PREFIX: &str = "OUTBOX_RELAY__";

/// Overrides that are written as a TOML value, because they are no single text.
const TOML_KEYS: [&str; 2] = ["route", "properties"];

/// The variables of the environment, as they were when the configuration was loaded.
#[derive(Debug)]
pub(super) struct Variables(BTreeMap<OsString, OsString>);

impl Variables {
    pub(super) fn new<K: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self(variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// A variable's value, if it is set and UTF-8.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(&OsString::from(name))?.to_str()
    }

    /// The overrides as a layer of values over those of the file.
    pub(super) fn overrides(
        &self,
        file: &Map<String, Value>,
        report: &mut Report,
    ) -> Map<String, Value> {
        let targets = target_names(file);
        let mut layer = Map::new();
        for (name, value) in &self.0 {
            let Some(name) = name.to_str() else { continue };
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let place = Place::Variable(name.to_owned());
            let Some(segments) = segments(rest, &targets) else {
                report.place(
                    place,
                    "not the name of a key",
                    format!("write {PREFIX}TARGET__ORDERS__URL for target.orders.url"),
                );
                continue;
            };
            let path = segments.iter().fold(String::new(), |path, s| join(&path, s));
            if let Some(scalar) = scalar_around(&path, &report.places) {
                report.place(
                    place,
                    format!("{path}: {scalar} is a single value and has no keys"),
                    format!("set {}", variable(scalar)),
                );
                continue;
            }
            let Some(text) = value.to_str() else {
                report.place(place, format!("{path}: not UTF-8"), "write the value in UTF-8");
                continue;
            };
            let written = Some(format!("{text:?}"));
            for table in std::iter::successors(parent(&path), |path| parent(path)) {
                if !report.places.is_written(table) {
                    report.places.insert(table.to_owned(), place.clone(), place.clone(), None);
                }
            }
            report.places.insert(path.clone(), place.clone(), place.clone(), written);
            let last = segments.last().map_or("", String::as_str);
            let value = if TOML_KEYS.contains(&last) && segments.len() > 1 {
                document::parse_variable(text, &path, &place, report)
            } else {
                Some(Value::new(None, text))
            };
            if let Some(value) = value {
                insert(&mut layer, &segments, value);
            }
        }
        layer
    }
}

/// The tables and the key that a variable names, in lower case; a target's name, which may hold
/// two underscores itself, is recognised by the file.
fn segments(rest: &str, targets: &[String]) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    let mut rest = rest;
    if let Some(after) = rest.strip_prefix("TARGET__") {
        segments.push("target".to_owned());
        rest = after;
        let named = targets.iter().find_map(|name| {
            let after = after.strip_prefix(&name.to_uppercase())?.strip_prefix("__")?;
            Some((name, after))
        });
        if let Some((name, after)) = named {
            segments.push(name.clone());
            rest = after;
        }
    }
    segments.extend(rest.split("__").map(str::to_lowercase));
    let written_so =
        rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    (written_so && segments.iter().all(|s| !s.is_empty())).then_some(segments)
}

/// The nearest part of a path that the file gives a single value: below it there is nothing.
fn scalar_around<'p>(path: &'p str, places: &Places) -> Option<&'p str> {
    std::iter::successors(parent(path), |path| parent(path))
        .find(|path| places.written(path).is_some())
}

/// The targets of the file, longest name first, so that `a__b` is found before `a`.
fn target_names(file: &Map<String, Value>) -> Vec<String> {
    let mut names: Vec<String> = match file.get("target").map(|t| &t.kind) {
        Some(ValueKind::Table(targets)) => targets.keys().cloned().collect(),
        _ => Vec::new(),
    };
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    names
}

fn insert(table: &mut Map<String, Value>, segments: &[String], value: Value) {
    let [first, rest @ ..] = segments else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let entry = table
        .entry(first.clone())
        .or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
    if !matches!(entry.kind, ValueKind::Table(_)) {
        *entry = Value::new(None, ValueKind::Table(Map::new()));
    }
    if let ValueKind::Table(inner) = &mut entry.kind {
        insert(inner, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let targets = ["a__b".to_owned(), "orders".to_owned(), "a".to_owned()];
        let path = |name| segments(name, &targets).map(|s| s.join("."));
        assert_eq!(path("SOURCE__BATCH_ROWS_MAX").unwrap(), "source.batch_rows_max");
        assert_eq!(path("TARGET__ORDERS__TLS__MODE").unwrap(), "target.orders.tls.mode");
        assert_eq!(path("TARGET__A__B__URL").unwrap(), "target.a__b.url");
        assert_eq!(path("TARGET__A__URL").unwrap(), "target.a.url");
        assert_eq!(path("TARGET__NEW__URL").unwrap(), "target.new.url");
        for bad in ["", "source__mode", "SOURCE____MODE", "SOURCE__", "SOURCE.MODE"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}
