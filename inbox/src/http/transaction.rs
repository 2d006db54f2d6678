//! The transaction that a handler works in. It is the layer's to begin and to end.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use tokio_postgres::Client;

use crate::connection::{Connection, Connections};
use crate::idempotency::KeyError;

/// The transaction of a request, as an extension of it: with axum, `Extension<Tx>`.
///
/// It derefs to the client, whose statements run in the transaction. A handler must not end it, and
/// must let go of it (clones included) before its response ends: the layer commits afterwards, and rolls
/// back what somebody still holds.
#[derive(Clone)]
pub struct Tx(Arc<Open>);

struct Open {
    connection: Box<dyn Connection>,
    /// Whether the server may still be in the transaction.
    open: AtomicBool,
}

/// How a COMMIT ended, when it did not succeed.
#[derive(Debug)]
pub(super) enum CommitError {
    /// The server rolled back.
    RolledBack(KeyError),
    /// The connection was lost: it may have been committed.
    Unknown(KeyError),
}

impl Tx {
    pub(super) async fn begin(connections: &Connections) -> Result<Self, KeyError> {
        let connection = connections.lend().await?;
        let tx = Self(Arc::new(Open { connection, open: AtomicBool::new(true) }));
        // READ COMMITTED whatever the default is: see outbox.idempotency_claim.
        tx.run("beginning a transaction", "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
            .await?;
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

    /// Ends the connection under whoever still holds it: a later statement of theirs would otherwise be
    /// a transaction of its own.
    pub(super) async fn cut(&self) {
        let _ = self.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").await;
    }

    async fn run(&self, step: &'static str, sql: &str) -> Result<(), KeyError> {
        self.batch_execute(sql).await.map_err(|error| KeyError::database(step, &error))
    }
}

impl Deref for Tx {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.0.connection.client()
    }
}

impl Drop for Open {
    /// A pool must not get a connection back whose transaction is open. The first poll hands the
    /// statement to the connection; everything that comes later is behind it.
    fn drop(&mut self) {
        if *self.open.get_mut() {
            let _ = self.connection.client().batch_execute("ROLLBACK").now_or_never();
        }
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tx")
    }
}
