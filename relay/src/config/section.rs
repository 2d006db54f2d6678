//! One table of the configuration while it is checked: reads its values by type and range.
//!
//! A value that is wrong is reported and its default stands in for it, so that everything that
//! is wrong is found in one go; the configuration as a whole is refused then.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::duration::{DURATION_HINT, format_duration, parse_duration};
use super::file;
use super::place::{Place, element, join};
use super::raw::{Scalar, Setting};
use super::report::Report;
use super::size::{SIZE_HINT, format_size, parse_size};
use super::spelling::nearest;

/// A table at a path.
pub(super) struct Section<'r> {
    report: &'r mut Report,
    path: String,
}

impl<'r> Section<'r> {
    pub(super) fn new(report: &'r mut Report, path: impl Into<String>) -> Self {
        Self { report, path: path.into() }
    }

    pub(super) fn table(&mut self, key: &str) -> Section<'_> {
        let path = join(&self.path, key);
        Section { report: self.report, path }
    }

    /// An element of an array in this table: `route[0]`.
    pub(super) fn element(&mut self, array: &str, index: usize) -> Section<'_> {
        let path = element(&self.path(array), index);
        Section { report: self.report, path }
    }

    fn path(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Where the value of this key stands, for what is found out later.
    pub(super) fn value_place(&self, key: &str) -> Place {
        self.report.places.of_value(&self.path(key))
    }

    /// The file that this key names holds a secret.
    pub(super) fn secret_stands_in(&mut self, key: &str, file: PathBuf) {
        let path = self.path(key);
        self.report.secret(path, file);
    }

    /// The value of this key is a secret: the file that it was written in holds one, if it was.
    pub(super) fn secret_stands_here(&mut self, key: &str) {
        let path = self.path(key);
        let from_file = !self.report.places.is_variable(&path);
        let literal = self.report.places.written(&path).is_some_and(|text| !text.contains("${"));
        if from_file && literal {
            let file = self.report.places.file().to_owned();
            self.report.secret(path, file);
        }
    }

    /// The value of this key is wrong.
    pub(super) fn refuse(&mut self, key: &str, reason: impl Into<String>, hint: impl Into<String>) {
        let path = self.path(key);
        self.report.value(&path, reason, hint);
    }

    /// This key should not be there.
    pub(super) fn refuse_key(
        &mut self,
        key: &str,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let path = self.path(key);
        self.report.key(&path, reason, hint);
    }

    pub(super) fn missing(&mut self, key: &str, example: &str) {
        self.report.missing(&self.path, key, example);
    }

    pub(super) fn text(&mut self, key: &str, value: &Setting) -> Option<String> {
        match value.as_ref()? {
            Scalar::Text(text) => Some(text.clone()),
            other => {
                self.wrong_type(key, "text", other, "write it in quotes");
                None
            }
        }
    }

    /// A required text; empty if it is absent, which is reported.
    pub(super) fn required(&mut self, key: &str, value: &Setting, example: &str) -> String {
        if value.is_none() {
            self.missing(key, example);
        }
        let text = self.text(key, value).unwrap_or_default();
        if text.is_empty() && matches!(value, Some(Scalar::Text(_))) {
            self.refuse(key, "must not be empty", format!("write {key} = {example}"));
        }
        text
    }

    pub(super) fn integer<T>(
        &mut self,
        key: &str,
        value: &Setting,
        default: T,
        range: RangeInclusive<T>,
    ) -> T
    where
        T: Copy + PartialOrd + Display + TryFrom<i128>,
    {
        let Some(value) = value else { return default };
        let hint = format!("write a number without quotes, such as {default}");
        let number = match value {
            Scalar::Integer(number) => Some(*number),
            // In the environment everything is text.
            Scalar::Text(text) if self.is_variable(key) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.wrong_type(key, "a whole number", value, &hint);
            return default;
        };
        match T::try_from(number).ok().filter(|number| range.contains(number)) {
            Some(number) => number,
            None => {
                let (min, max) = (range.start(), range.end());
                self.refuse(key, format!("must be between {min} and {max}"), hint);
                default
            }
        }
    }

    pub(super) fn duration(
        &mut self,
        key: &str,
        value: &Setting,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(value) = value else { return default };
        let Scalar::Text(text) = value else {
            self.wrong_type(key, "a duration", value, DURATION_HINT);
            return default;
        };
        match parse_duration(text) {
            Ok(duration) if range.contains(&duration) => duration,
            Ok(_) => {
                let (min, max) = (format_duration(*range.start()), format_duration(*range.end()));
                let hint = format!("the default is \"{}\"", format_duration(default));
                self.refuse(key, format!("must be between {min} and {max}"), hint);
                default
            }
            Err(reason) => {
                self.refuse(key, reason, DURATION_HINT);
                default
            }
        }
    }

    /// A size in bytes.
    pub(super) fn size(
        &mut self,
        key: &str,
        value: &Setting,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> usize {
        let Some(value) = value else { return default };
        let Scalar::Text(text) = value else {
            self.wrong_type(key, "a size", value, SIZE_HINT);
            return default;
        };
        let size = match parse_size(text) {
            Ok(size) => usize::try_from(size).unwrap_or(usize::MAX),
            Err(reason) => {
                self.refuse(key, reason, SIZE_HINT);
                return default;
            }
        };
        if range.contains(&size) {
            return size;
        }
        let show = |bytes: usize| format_size(bytes as u64);
        let (min, max) = (show(*range.start()), show(*range.end()));
        let hint = format!("the default is \"{}\"", show(default));
        self.refuse(key, format!("must be between {min} and {max}"), hint);
        default
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        value: &Setting,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(key, value)?;
        if let Some(&(_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(choice);
        }
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let hint = match nearest(&text, choices.iter().map(|&(name, _)| name)) {
            Some(name) => format!("did you mean \"{name}\"?"),
            None => format!("write {}", names.join(" or ")),
        };
        let reason = match &names[..] {
            [name] => format!("not {name}"),
            names => format!("not one of {}", names.join(", ")),
        };
        self.refuse(key, reason, hint);
        None
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str, value: &Setting, default: bool) -> bool {
        match value {
            None => return default,
            Some(Scalar::Boolean(flag)) => return *flag,
            Some(other) => {
                let reason = format!("expected a boolean, found {}", other.found());
                self.refuse(key, reason, "write true or false, without quotes");
            }
        }
        default
    }

    /// A file that is there and can be read. A relative path counts from the folder of the
    /// configuration file, whatever folder the relay is started in.
    pub(super) fn file(&mut self, key: &str, value: &Setting) -> Option<PathBuf> {
        let path = self.resolved(key, value)?;
        match file::read(&path, file::PEM_BYTES_MAX) {
            Ok(_) => Some(path),
            Err(reason) => {
                let reason = format!("cannot use {}: {reason}", path.display());
                self.refuse(key, reason, file::HINT);
                None
            }
        }
    }

    /// The absolute path that a value names.
    pub(super) fn resolved(&mut self, key: &str, value: &Setting) -> Option<PathBuf> {
        let text = self.text(key, value)?;
        if text.is_empty() {
            self.refuse(key, "must not be empty", file::HINT);
            return None;
        }
        let folder = self.report.places.file().parent().unwrap_or(Path::new(""));
        Some(folder.join(text))
    }

    /// `low` must not be above `high`; told at the key that was written.
    pub(super) fn ordered<T: PartialOrd>(
        &mut self,
        (low, low_value): (&str, T),
        (high, high_value): (&str, T),
        show: impl Fn(&T) -> String,
    ) {
        if low_value <= high_value {
            return;
        }
        let (low_shown, high_shown) = (show(&low_value), show(&high_value));
        if self.report.places.is_written(&self.path(low)) {
            let reason = format!("must not be above {high}, which is {high_shown}");
            self.refuse(low, reason, format!("lower {low} or raise {high}"));
        } else {
            let reason = format!("must not be below {low}, which is {low_shown}");
            self.refuse(high, reason, format!("raise {high} or lower {low}"));
        }
    }

    /// A variable that is no override (`RUST_LOG`) is wrong.
    pub(super) fn refuse_variable(&mut self, name: &str, reason: String, hint: &str) {
        self.report.place(Place::Variable(name.to_owned()), reason, hint);
    }

    /// Whether a key comes from the environment.
    pub(super) fn is_variable(&self, key: &str) -> bool {
        self.report.places.is_variable(&self.path(key))
    }

    fn wrong_type(&mut self, key: &str, expected: &str, found: &Scalar, hint: &str) {
        self.refuse(key, format!("expected {expected}, found {}", found.found()), hint);
    }
}
