//! The transaction that a handler works in. It is the layer's to begin and to end.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::connection::Connection;
use crate::idempotency::KeyError;

/// The transaction of a request, as an extension of it: with axum, `Extension<Tx>`.
///
/// It derefs to the client, whose statements run in the transaction. A handler must not end it, and
/// must let go of it (clones included) before its response ends: the layer commits afterwards, and
/// rolls back what a clone still holds. A handler that ends it all the same makes the outcome of its
/// request unknown: 500 `transaction_ended`, which is kept as the answer.
#[derive(Clone)]
pub struct Tx(Arc<Open>);

struct Open {
    /// There until it is dropped.
    connection: Option<Box<dyn Connection>>,
    /// Whether the server may still be in the transaction.
    open: AtomicBool,
    /// Whether a statement of a handler that was given up may still run.
    busy: AtomicBool,
}

/// A handler that was given up in the middle of a statement is not waited for: its connection is
/// ended.
const ROLLBACK_WAIT: Duration = Duration::from_secs(1);

/// How a COMMIT ended, when it did not succeed.
#[derive(Debug)]
pub(super) enum CommitError {
    /// The server rolled back.
    RolledBack(KeyError),
    /// The connection was lost: it may have been committed.
    Unknown(KeyError),
}

impl Tx {
    pub(super) async fn begin(
        connection: Box<dyn Connection>,
        handler_timeout: Duration,
    ) -> Result<Self, KeyError> {
        let (open, busy) = (AtomicBool::new(true), AtomicBool::new(false));
        let tx = Self(Arc::new(Open { connection: Some(connection), open, busy }));
        // READ COMMITTED whatever the default is: see outbox.idempotency_claim. The time limit
        // keeps a statement from going on without its handler; a shorter one of the role's stays.
        let limit = i32::try_from(handler_timeout.as_millis().max(1)).unwrap_or(i32::MAX);
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
             SELECT set_config('statement_timeout', '{limit}ms', true)
             WHERE current_setting('statement_timeout')::interval
                 NOT BETWEEN interval '1 ms' AND interval '{limit} ms'"
        );
        tx.run("beginning a transaction", &begin).await?;
        Ok(tx)
    }

    /// Before the handler's effects.
    pub(super) async fn mark(&self) -> Result<(), KeyError> {
        self.run("marking where the handler begins", "SAVEPOINT outbox_inbox_handler").await
    }

    /// Keeps the effects. Fails if one of the handler's statements failed: then there is nothing to commit.
    pub(super) async fn keep_effects(&self) -> Result<(), KeyError> {
        self.run("keeping the effects", "RELEASE SAVEPOINT outbox_inbox_handler").await
    }

    /// Takes the effects back, and only them.
    pub(super) async fn drop_effects(&self) -> Result<(), KeyError> {
        self.run("taking the effects back", "ROLLBACK TO SAVEPOINT outbox_inbox_handler").await
    }

    /// Ends whatever transaction the handler has left, and begins another one.
    pub(super) async fn begin_anew(&self) -> Result<(), KeyError> {
        let begin = "ROLLBACK; BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
        self.run("beginning a transaction", begin).await
    }

    /// Commits the other one.
    pub(super) async fn end_anew(&self) -> Result<(), KeyError> {
        self.run("committing", "COMMIT").await
    }

    /// Whether the handler has let go of it.
    pub(super) fn is_sole(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    pub(super) async fn commit(self) -> Result<(), CommitError> {
        let committed = self.batch_execute("COMMIT").await;
        let error = match committed {
            Ok(()) => {
                self.0.open.store(false, Ordering::Relaxed);
                return Ok(());
            }
            Err(error) => error,
        };
        match KeyError::database("committing", &error) {
            error @ (KeyError::Lost { .. } | KeyError::Connection(_)) => {
                Err(CommitError::Unknown(error))
            }
            error => Err(CommitError::RolledBack(error)),
        }
    }

    /// The server does it also when the connection is lost; whether this reaches it does not matter.
    pub(super) async fn roll_back(self) {
        if self.batch_execute("ROLLBACK").await.is_ok() {
            self.0.open.store(false, Ordering::Relaxed);
        }
    }

    /// Rolls back what a handler has left that was dropped. If one of its statements is still
    /// running, the connection is ended instead, and the server rolls back when it sees that.
    pub(super) async fn give_up(self) {
        self.within_the_wait("ROLLBACK").await;
    }

    /// Ends the connection under whoever still holds it: a later statement of theirs would otherwise be
    /// a transaction of its own.
    pub(super) async fn cut(&self) {
        self.within_the_wait("SELECT pg_terminate_backend(pg_backend_pid())").await;
    }

    async fn within_the_wait(&self, sql: &str) {
        match timeout(ROLLBACK_WAIT, self.batch_execute(sql)).await {
            Ok(Ok(())) => self.0.open.store(false, Ordering::Relaxed),
            Ok(Err(_)) => {}
            Err(_) => self.0.busy.store(true, Ordering::Relaxed),
        }
    }

    async fn run(&self, step: &'static str, sql: &str) -> Result<(), KeyError> {
        self.batch_execute(sql).await.map_err(|error| KeyError::database(step, &error))
    }
}

impl Deref for Tx {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.0.connection.as_ref().expect("only its drop takes the connection away").client()
    }
}

impl Drop for Open {
    /// A pool must not get a connection back whose transaction is open. The first poll hands the
    /// statement to the connection; everything that comes later is behind it.
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if *self.busy.get_mut() {
            return connection.discard();
        }
        if *self.open.get_mut() {
            let _ = connection.client().batch_execute("ROLLBACK").now_or_never();
        }
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tx")
    }
}
