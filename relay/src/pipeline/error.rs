//! Why a pipeline's life ended, by what it calls for.

use crate::admin::AdminError;
use crate::database::{DatabaseError, Reaction, Silent};
use crate::ledger::mark::MarkError;
use crate::source::SourceError;

/// Why a pipeline's life ended.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The database, or the lease: start anew.
    #[error("{0}")]
    Lost(String),
    /// What it found calls for a person; nothing is lost meanwhile.
    #[error("{reason}\nhint: {hint}")]
    Stopped {
        /// What was found.
        reason: String,
        /// What the operator can do.
        hint: String,
    },
    /// It does not work until a person has changed something outside of this process. It is tried
    /// again; the process ends with exit code 78 only if nothing at all could run at its start.
    #[error("{reason}\nhint: {hint}")]
    Configuration {
        /// What was refused, and by whom.
        reason: String,
        /// What the operator can do.
        hint: String,
    },
}

impl PipelineError {
    pub(super) fn stopped(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Stopped { reason: reason.into(), hint: hint.into() }
    }
}

impl From<DatabaseError> for PipelineError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Statement {
                reaction: Reaction::Refused | Reaction::Data,
                reason,
                hint,
            } => Self::stopped(reason, hint.unwrap_or_default()),
            DatabaseError::Unavailable(_) | DatabaseError::Statement { .. } => {
                Self::Lost(error.to_string())
            }
            DatabaseError::Configuration { reason, hint } => {
                Self::Configuration { reason, hint: hint.into_owned() }
            }
        }
    }
}

impl From<Silent> for PipelineError {
    fn from(silent: Silent) -> Self {
        Self::Lost(silent.to_string())
    }
}

impl From<tokio_postgres::Error> for PipelineError {
    fn from(error: tokio_postgres::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

impl From<MarkError> for PipelineError {
    fn from(error: MarkError) -> Self {
        match error {
            MarkError::Database(error) => error.into(),
            // Everything starts anew from the new ledger.
            MarkError::Rewritten => Self::Lost(error.to_string()),
        }
    }
}

impl From<SourceError> for PipelineError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Lost { what, error } => match error {
                Some(error) => Self::Lost(format!("{what}: {}", crate::database::describe(&error))),
                None => Self::Lost(what),
            },
            SourceError::Stopped { reason, hint } => Self::Stopped { reason, hint },
        }
    }
}

impl From<AdminError> for PipelineError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Database(error) => error.into(),
            other => Self::Lost(other.to_string()),
        }
    }
}
