//! What can go wrong around a handler, named by the reaction that it calls for.

use std::error::Error;

use crate::outcome::Settle;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Why a message was neither processed nor parked. None of it is the message's fault, and none is
/// counted as its attempt: the delivery goes back ([`Settle::Release`]), and comes again.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// Another transaction has claimed the message, and has not ended within the claim's wait.
    #[error("another transaction is at the message")]
    Busy(#[source] BoxError),
    /// A deadlock or a serialization failure: the next attempt is likely to succeed.
    #[error("the transaction was given up by the database")]
    Conflict(#[source] BoxError),
    /// The day in the id has no partition: nothing may be processed that is not remembered.
    #[error(
        "no partition for the message's day\nhint: run `outbox-relay inbox maintain`; has it stopped?"
    )]
    NoPartition(#[source] BoxError),
    /// The database is away.
    #[error("the database is not available")]
    Unavailable(#[source] BoxError),
    /// The connection was lost in COMMIT. The next delivery finds out: duplicate or fresh.
    #[error("nobody knows whether the transaction was committed")]
    CommitUnknown(#[source] BoxError),
    /// The inbox is not installed, of another version, or not permitted.
    #[error(
        "the inbox cannot be used\nhint: run `outbox-relay inbox init`, with --grant for the role"
    )]
    Inbox(#[source] BoxError),
}

impl InboxError {
    /// What becomes of the delivery: it goes back, without being counted as an attempt.
    #[must_use]
    pub fn settle(&self) -> Settle {
        Settle::Release
    }

    /// As a metric's label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Busy(_) => "busy",
            Self::Conflict(_) => "conflict",
            Self::NoPartition(_) => "no_partition",
            Self::Unavailable(_) => "unavailable",
            Self::CommitUnknown(_) => "commit_unknown",
            Self::Inbox(_) => "inbox",
        }
    }

    /// Of an answer that has other columns than this version of the inbox reads.
    pub(crate) fn unreadable(error: tokio_postgres::Error) -> Self {
        Self::Inbox(error.into())
    }

    /// Of an error of the inbox's own statements.
    pub(crate) fn of(error: impl Answer) -> Self {
        match error.reaction() {
            // The claim is the one statement that waits.
            Reaction::Busy | Reaction::Canceled => Self::Busy(error.into()),
            Reaction::Conflict => Self::Conflict(error.into()),
            Reaction::NoPartition => Self::NoPartition(error.into()),
            Reaction::Unavailable => Self::Unavailable(error.into()),
            Reaction::Exists | Reaction::Refused | Reaction::Other => Self::Inbox(error.into()),
        }
    }
}

/// What an answer of the database calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    Unavailable,
    Busy,
    Conflict,
    NoPartition,
    /// The statement took too long, or a person ended it. In a handler that is an attempt: the next
    /// one takes as long.
    Canceled,
    /// A unique key of the application says that the effect is there already.
    Exists,
    /// Data that no other attempt makes right.
    Refused,
    Other,
}

/// An error of a database client.
pub(crate) trait Answer: Into<BoxError> {
    fn reaction(&self) -> Reaction;
}

impl Answer for tokio_postgres::Error {
    fn reaction(&self) -> Reaction {
        let answer = self.as_db_error();
        reaction(answer.map(|a| a.code().code()), answer.and_then(|a| a.constraint()))
    }
}

/// By SQLSTATE (`None`: no answer came) and the constraint that the answer names.
pub(crate) fn reaction(code: Option<&str>, constraint: Option<&str>) -> Reaction {
    let Some(code) = code else { return Reaction::Unavailable };
    match code {
        "55P03" => Reaction::Busy,
        "57014" => Reaction::Canceled,
        "40001" | "40P01" => Reaction::Conflict,
        // A failed CHECK has the same code, and a name.
        "23514" if constraint.is_none() => Reaction::NoPartition,
        "23505" | "23P01" => Reaction::Exists,
        _ => match code.get(..2) {
            // Connection, resources, operator intervention, system.
            Some("08" | "53" | "57" | "58") => Reaction::Unavailable,
            Some("22" | "23") => Reaction::Refused,
            _ => Reaction::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_reaction() {
        for (code, constraint, expected) in [
            (None, None, Reaction::Unavailable),
            (Some("57P01"), None, Reaction::Unavailable),
            (Some("53300"), None, Reaction::Unavailable),
            (Some("08006"), None, Reaction::Unavailable),
            (Some("55P03"), None, Reaction::Busy),
            (Some("57014"), None, Reaction::Canceled),
            (Some("40001"), None, Reaction::Conflict),
            (Some("40P01"), None, Reaction::Conflict),
            (Some("23514"), None, Reaction::NoPartition),
            (Some("23514"), Some("amount_positive"), Reaction::Refused),
            (Some("23505"), Some("payment_pkey"), Reaction::Exists),
            (Some("23P01"), Some("no_overlap"), Reaction::Exists),
            (Some("23503"), Some("order_fkey"), Reaction::Refused),
            (Some("22003"), None, Reaction::Refused),
            (Some("42P01"), None, Reaction::Other),
            (Some("P0001"), None, Reaction::Other),
        ] {
            assert_eq!(reaction(code, constraint), expected, "{code:?} {constraint:?}");
        }
    }
}
