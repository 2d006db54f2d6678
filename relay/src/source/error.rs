//! Why a reader ended, by what it calls for.

use tokio_postgres::error::SqlState;

use crate::database::Silent;

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
    /// Somebody holds the table (VACUUM FULL, a migration), or the server is slow: the same again, later.
    Busy(tokio_postgres::Error),
    /// The reader ends.
    Ended(SourceError),
    /// The pipeline has dropped its end: the reader ends, and that is no error.
    Closed,
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
pub(super) fn classify(what: &str, error: tokio_postgres::Error) -> ReadError {
    let reaction = error
        .as_db_error()
        .map_or(Reaction::Lost, |db| reaction(db.code(), db.routine().unwrap_or_default()));
    match reaction {
        Reaction::Busy => ReadError::Busy(error),
        Reaction::Lost => ReadError::Ended(SourceError::Lost {
            what: format!("{what} failed"),
            error: Some(error),
        }),
        Reaction::Stop(hint) => {
            let said = error.as_db_error().map_or_else(String::new, |db| db.message().to_owned());
            ReadError::Ended(SourceError::stopped(format!("{what} failed: {said}"), hint))
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    Busy,
    Lost,
    Stop(&'static str),
}

/// The rows that a policy hides would be lost: with `row_security = off` the read fails instead.
const POLICY_HINT: &str = "the relay must see every row: give its role BYPASSRLS, or disable row-level security on the table";
const GRANT_HINT: &str =
    "`outbox-relay migrate --grant-relay ROLE` gives the relay's role what it needs";
const MIGRATE_HINT: &str = "run `outbox-relay migrate`";

/// `routine` is the server's function that raised it: the same in every language of its messages.
fn reaction(code: &SqlState, routine: &str) -> Reaction {
    match *code {
        SqlState::LOCK_NOT_AVAILABLE
        | SqlState::QUERY_CANCELED
        | SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::T_R_DEADLOCK_DETECTED => Reaction::Busy,
        SqlState::INSUFFICIENT_PRIVILEGE if routine == "check_enable_rls" => {
            Reaction::Stop(POLICY_HINT)
        }
        SqlState::INSUFFICIENT_PRIVILEGE => Reaction::Stop(GRANT_HINT),
        SqlState::UNDEFINED_TABLE
        | SqlState::UNDEFINED_COLUMN
        | SqlState::UNDEFINED_FUNCTION
        | SqlState::INVALID_SCHEMA_NAME => Reaction::Stop(MIGRATE_HINT),
        _ => Reaction::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reactions() {
        for (code, routine, expected) in [
            ("55P03", "", Reaction::Busy),
            ("57014", "ProcessInterrupts", Reaction::Busy),
            ("42501", "check_enable_rls", Reaction::Stop(POLICY_HINT)),
            ("42501", "aclcheck_error", Reaction::Stop(GRANT_HINT)),
            ("42P01", "", Reaction::Stop(MIGRATE_HINT)),
            ("42703", "", Reaction::Stop(MIGRATE_HINT)),
            ("42883", "", Reaction::Stop(MIGRATE_HINT)),
            ("3F000", "", Reaction::Stop(MIGRATE_HINT)),
            ("57P01", "", Reaction::Lost),
            ("57P03", "", Reaction::Lost),
            ("08006", "", Reaction::Lost),
            ("53100", "", Reaction::Lost),
            ("40001", "", Reaction::Busy),
            ("40P01", "", Reaction::Busy),
            ("0A000", "RevalidateCachedQuery", Reaction::Lost),
            ("XX001", "", Reaction::Lost),
        ] {
            assert_eq!(reaction(&SqlState::from_code(code), routine), expected, "{code} {routine}");
        }
    }
}
