//! File and environment in one, brought into the shape of `RawConfig`.
//!
//! serde stops at its first error. So each one is told and what it is about is taken out, until
//! the rest has the right shape: a file with five unknown keys names five.

use config::{ConfigError as LayerError, Map, Source, Value, ValueKind};
use serde::Deserialize;

use super::place::{is_bare, join, parent};
use super::raw::RawConfig;
use super::report::Report;
use super::spelling::{nearest, renamed};

/// Mistakes of shape that are told at once.
const PROBLEMS_MAX: usize = 100;

/// Lays the environment over the file and reads the result; what does not fit is reported. `None`
/// if what is left has no shape either.
pub(super) fn shape(
    mut file: Map<String, Value>,
    environment: Map<String, Value>,
    report: &mut Report,
) -> Option<RawConfig> {
    // `config` takes such a key for a path: `"a.b"` would become `b` in a table `a`.
    file.retain(|key, _| {
        let plain = is_bare(key);
        if !plain {
            report.key(&join("", key), "unknown key", "no key of the configuration needs quotes");
        }
        plain
    });
    let mut root = merge(file, environment);
    for (table, what) in [("target", "a target"), ("inbox", "an inbox")] {
        check_names(&mut root, table, what, report);
    }
    for _ in 0..PROBLEMS_MAX {
        let error = match RawConfig::deserialize(root.clone()) {
            Ok(raw) => return Some(raw),
            Err(error) => error,
        };
        let path = tell(&error, &mut root, report)?;
        if !remove(&mut root, &path) {
            return None;
        }
    }
    None
}

/// Values for the `config` crate, which lays one layer over the other key by key.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, LayerError> {
        Ok(self.0.clone())
    }
}

fn merge(file: Map<String, Value>, environment: Map<String, Value>) -> Value {
    config::Config::builder()
        .add_source(Layer(file))
        .add_source(Layer(environment))
        .build()
        .and_then(|merged| merged.try_deserialize::<Value>())
        .expect("layers that are in memory can be collected, and any value is a value")
}

/// Targets and inboxes whose names cannot be: told and taken out, so that every path is made of plain keys.
fn check_names(root: &mut Value, table: &str, what: &str, report: &mut Report) {
    let ValueKind::Table(root) = &mut root.kind else { return };
    let Some(ValueKind::Table(named)) = root.get_mut(table).map(|t| &mut t.kind) else {
        return;
    };
    named.retain(|name, _| {
        let valid = is_name(name);
        if !valid {
            report.key(
                &join(table, name),
                format!("not the name of {what}"),
                "a name is 1 to 63 of a-z, 0-9 and _, and begins with a letter",
            );
        }
        valid
    });
}

fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Reports what serde refused; returns the path of what has to go.
fn tell(error: &LayerError, root: &mut Value, report: &mut Report) -> Option<String> {
    let (at, message) = match error {
        LayerError::At { error, key, .. } => {
            // `config` writes `route[0]headers`.
            let key = key.clone().unwrap_or_default().replace(']', "].").replace("..", ".");
            (key.trim_end_matches('.').to_owned(), error.to_string())
        }
        other => (String::new(), other.to_string()),
    };
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") {
        let key = quoted.next()?;
        let path = join(&at, key);
        unknown_key(&at, key, &quoted.collect::<Vec<_>>(), report);
        return Some(path);
    }
    let found = find_mut(root, &at).map_or("nothing", |value| kind_name(value));
    let (expected, hint) = match at.rsplit('.').next() {
        Some("route") => ("an array of tables", "write route = [{ topic = \"…\", … }]".to_owned()),
        _ if at.contains('[') => ("a table", "write { KEY = \"…\", … }".to_owned()),
        _ => ("a table", format!("write [{at}] on a line of its own and its keys below")),
    };
    report.shape(&at, format!("expected {expected}, found {found}"), hint);
    Some(at)
}

fn unknown_key(table: &str, key: &str, known: &[&str], report: &mut Report) {
    let path = join(table, key);
    let meant = renamed(table, key).or_else(|| nearest(key, known.iter().copied()));
    let (reason, hint) = match meant {
        Some(meant) if renamed(table, key).is_some() => {
            ("this key has another name here", format!("write `{meant}`"))
        }
        Some(meant) => ("unknown key", format!("did you mean `{meant}`?")),
        None => ("unknown key", format!("known keys here: {}", known.join(", "))),
    };
    report.key(&path, reason, hint);
    if let Some(meant) = meant {
        // It was written, under another name: not missing as well.
        report.mark_failed(join(table, meant));
    }
}

fn kind_name(value: &Value) -> &'static str {
    match value.kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "a boolean",
        ValueKind::Float(_) => "a decimal number",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "an array",
        _ => "a whole number",
    }
}

/// Takes out what a path names; false if there is no such thing.
fn remove(root: &mut Value, path: &str) -> bool {
    let Some((around, last)) = split(root, path) else { return false };
    match &mut around.kind {
        // An element stays in its place, or the paths of those behind it would change.
        ValueKind::Array(array) => parse_index(last)
            .and_then(|n| array.get_mut(n))
            .map(|element| element.kind = ValueKind::Table(Map::new()))
            .is_some(),
        ValueKind::Table(table) => table.remove(&unquoted(last)).is_some(),
        _ => false,
    }
}

fn find_mut<'v>(root: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    let (around, last) = split(root, path)?;
    match &mut around.kind {
        ValueKind::Array(array) => array.get_mut(parse_index(last)?),
        ValueKind::Table(table) => table.get_mut(&unquoted(last)),
        _ => None,
    }
}

/// What a path's last key or index stands in, and that key or index.
fn split<'v, 'p>(root: &'v mut Value, path: &'p str) -> Option<(&'v mut Value, &'p str)> {
    match parent(path) {
        Some(table) => Some((find_mut(root, table)?, &path[table.len()..])),
        None => Some((root, path)),
    }
}

fn parse_index(text: &str) -> Option<usize> {
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// A key without the dot before it and without the quotes that `join` gave it.
fn unquoted(key: &str) -> String {
    let key = key.strip_prefix('.').unwrap_or(key);
    key.strip_prefix('"').and_then(|k| k.strip_suffix('"')).unwrap_or(key).to_owned()
}
