//! Why something does not work, and what a person can do about it.

use std::fmt;

/// Between the two in the text of an error.
const HINT: &str = "\nhint: ";

/// A reason, and the remedy if one is known. Errors carry both in one text, the remedy behind a
/// line break; a log line, `/ready` and the service manager want them on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// What was found, and who said it.
    pub reason: String,
    /// What the operator can do.
    pub hint: Option<String>,
}

impl Cause {
    /// A reason with its remedy.
    #[must_use]
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: Some(hint.into()) }
    }

    /// The text of an error on one line.
    #[must_use]
    pub fn of(error: &impl fmt::Display) -> Self {
        error.to_string().into()
    }

    /// One text with the remedy behind a line break, as errors have it.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}{HINT}{hint}", self.reason),
            None => self.reason.clone(),
        }
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        match text.split_once(HINT) {
            Some((reason, hint)) => Self::new(reason, hint),
            None => Self { reason: text, hint: None },
        }
    }
}

impl From<&str> for Cause {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// On one line: brokers and drivers break their sentences as they like.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = self.hint.iter().flat_map(|hint| ["; hint:", hint]);
        let mut words = Vec::new();
        for part in std::iter::once(self.reason.as_str()).chain(hint) {
            words.extend(part.split_whitespace());
        }
        // The sign before the hint belongs to the word before it.
        f.write_str(&words.join(" ").replace(" ; hint:", "; hint:"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_apart_and_shown_on_one_line() {
        let cause = Cause::from("refused\nby the broker\nhint: check the password");
        assert_eq!(cause.hint.as_deref(), Some("check the password"));
        assert_eq!(cause.to_string(), "refused by the broker; hint: check the password");
        assert_eq!(Cause::from(cause.text()), cause);
        assert_eq!(Cause::from("no\nroute").to_string(), "no route");
    }
}
