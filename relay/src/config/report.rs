//! Collects the mistakes while a configuration is read, so that all of them are told at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::Problem;
use super::exposure::{Exposed, exposure};
use super::interpolate::is_reference;
use super::place::{Place, Places, join};

/// Keys whose values are secrets: their values are in no message.
const SECRET_KEYS: [&str; 3] = ["password", "sasl_password", "key_password"];

/// The longest part of a value that a message shows, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// What was written where, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) places: Places,
    problems: Vec<Problem>,
    /// Keys that have a problem already: that they are absent afterwards is not a second one.
    failed: BTreeSet<String>,
    /// The keys of secrets, each with the file that holds it.
    secrets: Vec<(String, PathBuf)>,
}

impl Report {
    pub(super) fn new(file: &Path) -> Self {
        let (problems, failed, secrets) = (Vec::new(), BTreeSet::new(), Vec::new());
        Self { places: Places::new(file), problems, failed, secrets }
    }

    /// The secret of a key stands in a file.
    pub(super) fn secret(&mut self, path: String, file: PathBuf) {
        self.secrets.push((path, file));
    }

    /// Files with secrets that others can read or change, each once.
    pub(super) fn exposed(&self) -> Vec<Exposed> {
        let mut exposed: Vec<Exposed> = Vec::new();
        for (path, file) in &self.secrets {
            if exposed.iter().all(|known| known.path != *file) {
                exposed.extend(exposure(path.clone(), file));
            }
        }
        exposed
    }

    /// Something is wrong with a value.
    pub(super) fn value(&mut self, path: &str, reason: impl Into<String>, hint: impl Into<String>) {
        let (place, value) = (self.places.of_value(path), self.shown(path));
        self.push(place, path, value, reason, hint);
    }

    /// A table was expected; what stands there instead is not shown, it may be a url or a secret.
    pub(super) fn shape(&mut self, path: &str, reason: impl Into<String>, hint: impl Into<String>) {
        let place = self.places.of_value(path);
        self.push(place, path, None, reason, hint);
    }

    /// A key should not be where it is; its value is not shown, it may be anything.
    pub(super) fn key(&mut self, path: &str, reason: impl Into<String>, hint: impl Into<String>) {
        let place = self.places.of_key(path);
        self.push(place, path, None, reason, hint);
    }

    /// A required key is absent; silent when the key is there and has a problem already.
    pub(super) fn missing(&mut self, table: &str, key: &str, example: &str) {
        let path = join(table, key);
        if self.is_failed(&path) || self.is_failed(table) {
            return;
        }
        let hint = match table.contains('[') {
            true => format!("add {key} = {example} to it"),
            false => format!("add {key} = {example} to [{table}], or set {}", variable(&path)),
        };
        self.key(&path, "a required key is missing", hint);
    }

    /// There is no target at all; silent when those that were written have problems already.
    pub(super) fn no_target(&mut self) {
        if !self.failed.iter().any(|path| path == "target" || path.starts_with("target.")) {
            self.key(
                "target",
                "there is no target",
                "add a table [target.NAME] with kind = \"amqp\" or \"kafka\" and its routes",
            );
        }
    }

    /// Something is wrong at a place that is no key.
    pub(super) fn place(
        &mut self,
        place: Place,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(place, "", None, reason, hint);
    }

    /// Absence of this key is the consequence of a problem that was told.
    pub(super) fn mark_failed(&mut self, path: String) {
        self.failed.insert(path);
    }

    fn is_failed(&self, path: &str) -> bool {
        self.failed.contains(path)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn push(
        &mut self,
        place: Place,
        path: &str,
        value: Option<String>,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.failed.insert(path.to_owned());
        self.problems.push(Problem {
            place,
            key: path.to_owned(),
            value,
            reason: reason.into(),
            hint: hint.into(),
        });
    }

    /// What a message may show of a value: as it was written, nothing of a secret.
    fn shown(&self, path: &str) -> Option<String> {
        let key = path.rsplit('.').next().unwrap_or(path);
        // A property that is misspelled may be a secret, so no property is shown.
        if SECRET_KEYS.contains(&key) || key == "properties" || path.contains(".properties.") {
            return None;
        }
        let written = self.places.written(path)?;
        if key == "url" {
            // Of a url that is not understood, nothing but the scheme is known to be no password.
            let text = written.trim_matches('"');
            return match text.split_once("://") {
                Some((scheme, _)) if is_scheme(scheme) => Some(format!("\"{scheme}://…\"")),
                Some(_) => None,
                None => is_reference(text).then(|| written.to_owned()),
            };
        }
        let line = written.lines().next().unwrap_or_default();
        let cut = line.chars().count() > SHOWN_CHARS_MAX || written.contains('\n');
        let shown: String = line.chars().take(SHOWN_CHARS_MAX).collect();
        Some(if cut { shown + "…" } else { shown })
    }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.len() <= 16 && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// The variable that overrides a key.
pub(super) fn variable(path: &str) -> String {
    format!("{}{}", super::variable::PREFIX, path.to_uppercase().replace('.', "__"))
}
