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
    /// The one before was lost, or suspended: go on from the lease's recovery point.
    Resumed(Lease),
    /// It is done.
    Replay(Answer),
    /// Another attempt is at work on it.
    InProgress {
        /// Until its lease ends, if it is not renewed; `None` if the key changed hands at each
        /// look.
        lease_left: Option<Duration>,
    },
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
    /// Another attempt is at work on it.
    InProgress {
        /// Until its lease ends, if it has one and does not renew it; another transaction's claim
        /// has none.
        lease_left: Option<Duration>,
    },
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
            "in_progress" => Self::InProgress { lease_left: lease_left(row)? },
            "unknown" => Self::Unknown,
            "mismatch" => Self::Mismatch,
            _ => return Err(ReadError::Verdict(Unheard(verdict))),
        })
    }
}

/// From the column of this name, in seconds.
fn lease_left(row: &Row) -> Result<Option<Duration>, tokio_postgres::Error> {
    let seconds: Option<f64> = row.try_get("lease_left")?;
    Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
}

impl Claim {
    pub(super) fn read(row: &Row) -> Result<Self, ReadError> {
        let verdict: String = row.try_get("verdict")?;
        Ok(match verdict.as_str() {
            "started" => Self::Started,
            "replay" => Self::Replay(Answer::read(row)?),
            "in_progress" => Self::InProgress { lease_left: lease_left(row)? },
            "unknown" => Self::Unknown,
            "mismatch" => Self::Mismatch,
            _ => return Err(ReadError::Verdict(Unheard(verdict))),
        })
    }
}
