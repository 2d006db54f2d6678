//! What the inbox says of a message.

use std::str::FromStr;

/// What a claim found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is this transaction's to process.
    Fresh,
    /// It was processed.
    Duplicate,
    /// Another message under an id that was processed: another payload, key, topic or type.
    Mismatch,
    /// Older than what is remembered: nobody knows whether it was processed.
    Stale,
    /// Its id cannot be stored or placed: of the ids that a [`MessageId`](crate::MessageId) can be,
    /// one of a day after tomorrow that has no partition.
    Unusable,
}

impl Verdict {
    /// As in SQL, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Duplicate => "duplicate",
            Self::Mismatch => "mismatch",
            Self::Stale => "stale",
            Self::Unusable => "unusable",
        }
    }
}

/// A verdict that this version does not know: the database is newer.
#[derive(Debug, thiserror::Error)]
#[error("unknown verdict {0:?}")]
pub struct UnknownVerdict(String);

impl FromStr for Verdict {
    type Err = UnknownVerdict;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Fresh, Self::Duplicate, Self::Mismatch, Self::Stale, Self::Unusable]
            .into_iter()
            .find(|verdict| verdict.as_str() == text)
            .ok_or_else(|| UnknownVerdict(text.to_owned()))
    }
}
