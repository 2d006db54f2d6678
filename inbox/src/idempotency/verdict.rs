//! What a key says to who comes with it.

use std::time::Duration;

use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::answer::Answer;

/// The recovery point of work of which no phase is recorded.
pub const STARTED: &str = "started";

/// The answer of `begin`.
#[derive(Debug, Clone, PartialEq)]
pub enum Begin {
    /// It is the first: do it.
    Started(Lease),
    /// The one before was lost: go on from the lease's recovery point.
    Resumed(Lease),
    /// It is done.
    Replay(Answer),
    /// Somebody does it just now.
    InProgress,
    /// Somebody was lost doing it, and whoever asks cannot take it up.
    Unknown,
    /// The key belongs to another request.
    Mismatch,
}

/// The answer of `claim`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is the first: do it in this transaction.
    Started,
    /// It is done.
    Replay(Answer),
    /// Somebody does it just now.
    InProgress,
    /// A lease on it was lost.
    Unknown,
    /// The key belongs to another request.
    Mismatch,
}

/// The right to do it, until it ends or is taken over.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The scope of the key.
    pub scope: String,
    /// The key.
    pub key: String,
    /// The fencing token: what is written under an older one is refused.
    pub token: Uuid,
    /// 1 for the first.
    pub attempt: u32,
    /// How far it is known to have come; [`STARTED`] at first.
    pub recovery_point: String,
    /// What was recorded there.
    pub checkpoint: Option<Value>,
    /// For how long each checkpoint holds it on.
    pub duration: Duration,
}

/// A verdict that this crate does not know: the functions are of another version.
#[derive(Debug)]
pub(super) struct Unheard(pub(super) String);

pub(super) enum ReadError {
    Column(tokio_postgres::Error),
    Verdict(Unheard),
}

impl From<tokio_postgres::Error> for ReadError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Column(error)
    }
}

impl Begin {
    pub(super) fn read(
        row: &Row,
        scope: &str,
        key: &str,
        duration: Duration,
    ) -> Result<Self, ReadError> {
        let verdict: String = row.try_get("verdict")?;
        let lease = || -> Result<Lease, tokio_postgres::Error> {
            Ok(Lease {
                scope: scope.to_owned(),
                key: key.to_owned(),
                token: row.try_get("token")?,
                attempt: u32::try_from(row.try_get::<_, i32>("attempt")?).unwrap_or(1),
                recovery_point: row.try_get("recovery_point")?,
                checkpoint: row.try_get("checkpoint")?,
                duration,
            })
        };
        Ok(match verdict.as_str() {
            "started" => Self::Started(lease()?),
            "resumed" => Self::Resumed(lease()?),
            "replay" => Self::Replay(Answer::read(row)?),
            "in_progress" => Self::InProgress,
            "unknown" => Self::Unknown,
            "mismatch" => Self::Mismatch,
            _ => return Err(ReadError::Verdict(Unheard(verdict))),
        })
    }
}

impl Claim {
    pub(super) fn read(row: &Row) -> Result<Self, ReadError> {
        let verdict: String = row.try_get("verdict")?;
        Ok(match verdict.as_str() {
            "started" => Self::Started,
            "replay" => Self::Replay(Answer::read(row)?),
            "in_progress" => Self::InProgress,
            "unknown" => Self::Unknown,
            "mismatch" => Self::Mismatch,
            _ => return Err(ReadError::Verdict(Unheard(verdict))),
        })
    }
}
