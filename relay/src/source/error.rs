//! Why a reader ended, by what it calls for.

use crate::database::{Reaction, Silent, describe, ends_session, reaction, remedy};

/// Why a reader ended.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The connection, or what it can be trusted with, is lost: the pipeline starts anew.
    #[error("{what}")]
    Lost {
        /// What the reader was doing.
        what: String,
        /// What PostgreSQL or the network said, if it was them.
        #[source]
        error: Option<tokio_postgres::Error>,
    },
    /// The outbox is not what the ledger tells about: the pipeline stops until a person has acted.
    #[error("{reason}\nhint: {hint}")]
    Stopped {
        /// What was found.
        reason: String,
        /// What the operator can do.
        hint: String,
    },
}

impl SourceError {
    pub(super) fn stopped(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Stopped { reason: reason.into(), hint: hint.into() }
    }
}

/// What interrupts a reader.
#[derive(Debug)]
pub(super) enum ReadError {
    /// Another session holds the table (VACUUM FULL, a migration), the server is slow, or it has run
    /// out of something: the same statement again, later.
    Busy(tokio_postgres::Error),
    /// A row of the result cannot be read: the others can.
    Row(Unreadable),
    /// The reader ends.
    Ended(SourceError),
    /// The pipeline has dropped its end: the reader ends, and that is no error.
    Closed,
}

/// A statement that failed over a value in one of its rows.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// What the reader was doing.
    pub(super) what: &'static str,
    /// What PostgreSQL said.
    pub(super) error: tokio_postgres::Error,
}

impl Unreadable {
    /// What PostgreSQL said, for people.
    pub(super) fn reason(&self) -> String {
        describe(&self.error)
    }

    /// Where no row can be told from the others.
    pub(super) fn stopped(self) -> SourceError {
        let hint = remedy(&self.error).unwrap_or_default();
        SourceError::stopped(format!("{} failed: {}", self.what, self.reason()), hint)
    }
}

impl From<SourceError> for ReadError {
    fn from(error: SourceError) -> Self {
        Self::Ended(error)
    }
}

impl From<Silent> for ReadError {
    fn from(silent: Silent) -> Self {
        Self::Ended(SourceError::Lost { what: silent.to_string(), error: None })
    }
}

/// Sorts an error of PostgreSQL, met while doing `what`.
pub(super) fn classify(what: &'static str, error: tokio_postgres::Error) -> ReadError {
    let lost = |error| SourceError::Lost { what: format!("{what} failed"), error: Some(error) };
    match reaction(&error) {
        Reaction::Again | Reaction::Resources if !ends_session(&error) => ReadError::Busy(error),
        Reaction::Data => ReadError::Row(Unreadable { what, error }),
        Reaction::Reconnect | Reaction::Again | Reaction::Resources => {
            ReadError::Ended(lost(error))
        }
        Reaction::Refused | Reaction::Permission | Reaction::Misfit => {
            ReadError::Ended(Unreadable { what, error }.stopped())
        }
    }
}
