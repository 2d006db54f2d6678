//! What is wrong with a configuration: every mistake with its place, its key and a remedy.

use std::fmt;

use super::place::Place;

/// Everything that is wrong with a configuration; at least one problem.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        // In the order of the file, so that a person can go through it once; the environment last.
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        Self { problems }
    }

    /// The problems: those of the file in the order of its lines, then those of the environment.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// One mistake.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// The dotted key, `target.orders.url`; empty if the mistake belongs to none (a syntax error).
    pub key: String,
    /// The value as it was written (`${VAR}` is not replaced); none for a secret or a whole table.
    pub value: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        match (&self.key[..], &self.value) {
            ("", _) => {}
            (key, None) => write!(f, "{key}: ")?,
            (key, Some(value)) => write!(f, "{key} = {value}: ")?,
        }
        write!(f, "{}\nhint: {}", self.reason, self.hint)
    }
}
