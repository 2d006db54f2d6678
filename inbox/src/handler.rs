//! How a handler fails.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::error::{Answer, BoxError, Reaction};
use crate::idempotency::{KeyError, LeaseError};

/// Why a handler could not process its message. Made from any error by `?`: those of the database are
/// told apart by their SQLSTATE (also deeper in the chain of causes), anything else is taken for transient.
///
/// It is no [`Error`] itself, or it could not be made from every one.
pub struct HandlerError {
    pub(crate) failure: Failure,
    source: BoxError,
}

/// What a failure calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Another attempt may succeed.
    Transient,
    /// No other attempt will.
    Permanent,
    /// The handler did not end in time.
    Timeout,
    /// A unique key of the application refused the effect: it was there already, and not by this inbox.
    Exists { constraint: String },
    /// Nothing is known about the message, since the database went away, or gave the transaction up.
    Database(Reaction),
}

impl HandlerError {
    /// Another attempt may succeed.
    pub fn transient(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { failure: Failure::Transient, source: error.into() }
    }

    /// No other attempt will: the message is parked.
    pub fn permanent(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { failure: Failure::Permanent, source: error.into() }
    }

    /// Somebody else is at it: no attempt of the message's.
    pub(crate) fn busy(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { failure: Failure::Database(Reaction::Busy), source: error.into() }
    }

    pub(crate) fn timeout(after: Duration) -> Self {
        let source = format!("the handler did not end within {after:?}").into();
        Self { failure: Failure::Timeout, source }
    }

    /// Of an answer to COMMIT: a deferred constraint, or the database gave the transaction up.
    pub(crate) fn of(error: impl Answer, constraint: Option<&str>) -> Self {
        let failure = failure(error.reaction(), constraint);
        Self { failure, source: error.into() }
    }

    /// It says nothing about the message.
    pub(crate) fn is_of_database(&self) -> bool {
        matches!(self.failure, Failure::Database(_))
    }

    pub(crate) fn into_source(self) -> BoxError {
        self.source
    }

    /// The chain of causes on one line. A message of the server is part of it, its detail, which holds
    /// values, is not.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.source.to_string();
        let mut cause = self.source.source();
        while let Some(error) = cause {
            text.push_str(": ");
            // Its Display adds the detail.
            match error.downcast_ref::<tokio_postgres::error::DbError>() {
                Some(answer) => text.push_str(answer.message()),
                None => text.push_str(&error.to_string()),
            }
            cause = error.source();
        }
        text
    }
}

impl Failure {
    /// As it is stored and counted.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Timeout => "timeout",
            Self::Exists { .. } => "already_exists",
            Self::Database(_) => "database",
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let failure = classify(&error);
        Self { failure, source: error.into() }
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError")
            .field("failure", &self.failure)
            .field("source", &self.source)
            .finish()
    }
}

fn classify(error: &(dyn Error + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            return failure(error.reaction(), error.as_db_error().and_then(|a| a.constraint()));
        }
        #[cfg(feature = "sqlx")]
        if let Some(error) = error.downcast_ref::<::sqlx::Error>() {
            let answer = error.as_database_error();
            return failure(error.reaction(), answer.and_then(|a| a.constraint()));
        }
        if let Some(error) = error.downcast_ref::<LeaseError>() {
            return failure(error.reaction(), None);
        }
        if let Some(error) = error.downcast_ref::<KeyError>() {
            return failure(error.reaction(), None);
        }
        cause = error.source();
    }
    Failure::Transient
}

fn failure(reaction: Reaction, constraint: Option<&str>) -> Failure {
    match reaction {
        Reaction::Unavailable | Reaction::Busy | Reaction::Conflict => Failure::Database(reaction),
        Reaction::Exists => {
            Failure::Exists { constraint: constraint.unwrap_or("unknown").to_owned() }
        }
        Reaction::Refused => Failure::Permanent,
        // A column that a deployment is about to add, a partition that somebody is about to make.
        Reaction::NoPartition | Reaction::Canceled | Reaction::Other => Failure::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idempotency::StepError;

    #[test]
    fn a_step_that_the_database_did_not_record_is_no_attempt() {
        let lost = StepError::<std::io::Error>::Lease(LeaseError::Lost);
        assert_eq!(HandlerError::from(lost).failure, Failure::Database(Reaction::Busy));
        let away = KeyError::Lost { step: "recording a phase", reason: "closed".into() };
        let away = StepError::<std::io::Error>::Lease(away.into());
        assert_eq!(HandlerError::from(away).failure, Failure::Database(Reaction::Unavailable));
        let call = StepError::Call(std::io::Error::other("x"));
        assert_eq!(HandlerError::from(call).failure, Failure::Transient);
    }

    #[test]
    fn an_error_that_nobody_knows_is_transient() {
        let error = HandlerError::from(std::io::Error::other("x"));
        assert_eq!(error.failure, Failure::Transient);
        assert_eq!(HandlerError::permanent("no such currency").failure, Failure::Permanent);
        assert_eq!(HandlerError::permanent("no such currency").chain(), "no such currency");
    }
}
