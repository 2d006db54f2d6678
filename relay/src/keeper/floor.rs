//! The floor: every message below it has been deleted, or stands in `kept`.
//!
//! Whatever relies on it standing still (retention, sweep, target creation, replay, requeue,
//! rebuild, removal) runs in a transaction that begins here.

use tokio_postgres::{Client, Error, IsolationLevel, Transaction};

use crate::schema::Schema;

/// Begins a transaction and takes the transaction lock `@floor`, waiting for it at most the
/// session's `lock_timeout` (then the error is SQLSTATE 55P03).
///
/// READ COMMITTED is asked for, whatever the server's default is: the first snapshot of a
/// REPEATABLE READ transaction would be that of the lock statement itself, taken *before* it waited,
/// so the transaction would not see what the previous holder of the lock did.
///
/// Cancel safety: dropping the future, or the transaction, rolls back and frees the lock.
pub(crate) async fn hold<'c>(
    client: &'c mut Client,
    schema: &Schema,
) -> Result<Transaction<'c>, Error> {
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
    let lock = "SELECT pg_advisory_xact_lock(k1, k2) FROM outbox.lock_key('@floor')";
    transaction.query_one(&schema.sql(lock), &[]).await?;
    Ok(transaction)
}
