//! Why a key could not be worked with, named by what the caller can do.

use tokio_postgres::error::SqlState;

use crate::connection::ConnectionError;
use crate::error::Reaction;

/// The database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There was no connection: nothing was done.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// Another transaction was in the way: nothing was done, and trying again helps.
    #[error("another transaction was in the way while {step}: {reason}")]
    Conflict {
        /// What was being done.
        step: &'static str,
        /// What the server said.
        reason: String,
    },
    /// The connection was lost: whether the statement took effect is not known.
    #[error("the connection was lost while {step}: {reason}")]
    Lost {
        /// What was being done.
        step: &'static str,
        /// What ended it.
        reason: String,
    },
    /// The transaction that this belongs to had ended before, by a COMMIT or ROLLBACK of the
    /// handler's: what was done in it is committed, or is not.
    #[error("the transaction had ended before {step}: {reason}")]
    TransactionEnded {
        /// What was being done.
        step: &'static str,
        /// What the server said.
        reason: String,
    },
    /// The server refused the statement.
    #[error("the database refused while {step}: {reason}")]
    Refused {
        /// What was being done.
        step: &'static str,
        /// What the server said, and its SQLSTATE in brackets.
        reason: String,
        /// The SQLSTATE.
        code: String,
    },
}

impl KeyError {
    /// Keeps the server's message and drops its details: those quote the row, and the row holds the body.
    pub(crate) fn database(step: &'static str, error: &tokio_postgres::Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            return Self::Lost { step, reason: error.to_string() };
        };
        let reason = format!("{} ({})", answer.message(), answer.code().code());
        let conflicts = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
        ];
        // A server that ends its backends says so before it closes the connection.
        let endings = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ];
        // The savepoint of the layer has gone.
        let ended = [SqlState::NO_ACTIVE_SQL_TRANSACTION, SqlState::S_E_INVALID_SPECIFICATION];
        match answer.code() {
            code if ended.contains(code) => Self::TransactionEnded { step, reason },
            code if conflicts.contains(code) => Self::Conflict { step, reason },
            code if endings.contains(code) => Self::Lost { step, reason },
            code => Self::Refused { step, reason, code: code.code().to_owned() },
        }
    }
}

impl KeyError {
    /// Whether the transaction of the claim is no more, of an error that came after the claim.
    #[cfg(feature = "http")]
    pub(crate) fn says_transaction_ended(&self) -> bool {
        match self {
            Self::TransactionEnded { .. } => true,
            // So says outbox.idempotency_store.
            Self::Refused { code, .. } => {
                *code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE.code()
            }
            _ => false,
        }
    }

    /// Whether the server refused the data itself: it cannot be kept in that form.
    pub(crate) fn refused_data(&self) -> bool {
        let Self::Refused { code, .. } = self else { return false };
        // Data exceptions (a NUL in JSON), a CHECK, limits of the server's (JSON of 256 MB).
        code.starts_with("22")
            || code.starts_with("54")
            || *code == SqlState::CHECK_VIOLATION.code()
    }

    /// What it calls for in the handler of a message.
    pub(crate) fn reaction(&self) -> Reaction {
        match self {
            Self::Connection(_) | Self::Lost { .. } => Reaction::Unavailable,
            Self::Conflict { .. } => Reaction::Conflict,
            Self::TransactionEnded { .. } | Self::Refused { .. } => Reaction::Other,
        }
    }
}

impl LeaseError {
    /// What it calls for in the handler of a message. To be overtaken is nobody's failed attempt.
    pub(crate) fn reaction(&self) -> Reaction {
        match self {
            Self::Lost => Reaction::Busy,
            Self::Key(error) => error.reaction(),
        }
    }
}

/// Why a lease could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// It is somebody else's by now: roll back, answer nothing, let the other one do it.
    #[error(
        "the lease of the idempotency key was lost\nhint: a lease must be longer than a phase ever takes"
    )]
    Lost,
    /// The database did not do what it was asked.
    #[error(transparent)]
    Key(#[from] KeyError),
}
