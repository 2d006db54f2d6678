//! What a caller asks of a key.

use std::time::Duration;

/// Longer than an ordinary request takes, with its third party. What is lost stays out of reach for so long.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(60);

/// A day: what clients of payment providers are used to, and longer than any of them retries.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// As the table's CHECK has it.
pub const SCOPE_BYTES_MAX: usize = 400;

/// As the table's CHECK has it.
pub const KEY_BYTES_MAX: usize = 255;

/// As the table's CHECK has it.
pub const FINGERPRINT_BYTES_MAX: usize = 64;

/// One request under a key.
#[derive(Debug, Clone, Copy)]
pub struct KeyRequest<'a> {
    /// Whose key it is, at most [`SCOPE_BYTES_MAX`]: two callers with the same key are two keys.
    pub scope: &'a str,
    /// The key, at most [`KEY_BYTES_MAX`].
    pub key: &'a str,
    /// What was asked for, at most [`FINGERPRINT_BYTES_MAX`]; the same key with another one is refused.
    pub fingerprint: &'a [u8],
    /// How long the key and its answer are kept, from the first request on.
    pub ttl: Duration,
}

/// From which recovery points lost work may be taken up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ResumeAt {
    /// From none: how far it came is not known, so it is never repeated blindly.
    #[default]
    Nowhere,
    /// From its start, and from these.
    Points(Vec<String>),
    /// From any.
    Anywhere,
}

impl ResumeAt {
    /// As the function takes it.
    pub(super) fn parameter(&self) -> Option<Vec<&str>> {
        match self {
            Self::Nowhere => None,
            Self::Points(points) => Some(points.iter().map(String::as_str).collect()),
            Self::Anywhere => Some(vec!["*"]),
        }
    }
}
