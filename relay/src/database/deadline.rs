//! How long an answer may take: a limit on this side of the connection.
//!
//! `statement_timeout` is the server's, and keepalives are its kernel's. Neither helps against a server
//! that is stopped, or whose storage hangs, or a proxy that keeps a connection open to nobody.

use std::future::Future;
use std::time::Duration;

use super::DatabaseError;
use crate::config::DatabaseConfig;

/// The server ends a statement by itself at `statement_timeout`; its word may take this long.
const MARGIN: Duration = Duration::from_secs(5);

/// The limit of one statement. Without a `statement_timeout` there is none.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    statement_timeout: Duration,
}

/// Neither an answer nor an error came in time: the connection is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server does not answer")]
pub struct Silent;

impl Deadline {
    pub(super) fn new(config: &DatabaseConfig) -> Self {
        Self { statement_timeout: config.statement_timeout }
    }

    /// Waits for the answer to one statement (or to a few that are pipelined).
    ///
    /// Cancel safety: that of `statement`.
    ///
    /// # Errors
    /// [`Silent`].
    pub async fn answer<F: Future>(self, statement: F) -> Result<F::Output, Silent> {
        self.answers(1, statement).await
    }

    /// Waits for work that consists of up to `statements`, one after the other.
    ///
    /// # Errors
    /// [`Silent`].
    pub async fn answers<F: Future>(self, statements: u32, work: F) -> Result<F::Output, Silent> {
        if self.statement_timeout.is_zero() {
            return Ok(work.await);
        }
        let limit = self.statement_timeout * statements + MARGIN;
        tokio::time::timeout(limit, work).await.map_err(|_| Silent)
    }
}

impl From<Silent> for DatabaseError {
    fn from(silent: Silent) -> Self {
        Self::Unavailable(silent.to_string())
    }
}
