//! The audit: who decided what about which messages, in the transaction that does it.

use serde::Serialize;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Transaction};
use uuid::Uuid;

use crate::range::RangeSet;
use crate::schema::Schema;

/// Who decided, and why.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decision<'a> {
    /// A person's name; the session's role without it.
    pub by: Option<&'a str>,
    /// For those who ask later.
    pub reason: Option<&'a str>,
}

/// What was decided.
#[derive(Debug)]
pub(crate) struct Decided<'a, F> {
    /// The same in every transaction of one run of a command.
    pub(crate) command_id: Uuid,
    /// As it is typed.
    pub(crate) command: &'a str,
    /// `None`: all of them.
    pub(crate) target: Option<&'a str>,
    /// What was asked for.
    pub(crate) filter: &'a F,
    /// How many messages it befell.
    pub(crate) rows: u64,
    /// Which ids that was.
    pub(crate) ids: RangeSet,
    /// Of messages that nothing else knows any more.
    pub(crate) message_ids: Option<&'a [Uuid]>,
}

const RECORD: &str = "
INSERT INTO outbox.decision (command_id, command, target, decided_by, reason, filter, rows, ids, message_ids)
VALUES ($1, $2, $3, coalesce($4, session_user), $5, $6, $7, $8::text::int8multirange, $9)";

/// Records it, unless it befell no message.
///
/// # Errors
/// The database's; a CHECK of it if the name is empty.
pub(crate) async fn record<F: Serialize>(
    transaction: &Transaction<'_>,
    schema: &Schema,
    decided: Decided<'_, F>,
    decision: &Decision<'_>,
) -> Result<(), Error> {
    if decided.rows == 0 {
        return Ok(());
    }
    record_always(transaction, schema, decided, decision).await
}

/// Records it, whether or not it befell a message that is there.
///
/// # Errors
/// As [`record`].
pub(crate) async fn record_always<F: Serialize>(
    transaction: &Transaction<'_>,
    schema: &Schema,
    decided: Decided<'_, F>,
    decision: &Decision<'_>,
) -> Result<(), Error> {
    let Decided { command_id, command, target, filter, rows, ids, message_ids } = decided;
    let filter = serde_json::to_value(filter).expect("a filter is a struct of texts and numbers");
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    let parameters: [&(dyn ToSql + Sync); 9] = [
        &command_id,
        &command,
        &target,
        &decision.by,
        &decision.reason,
        &filter,
        &rows,
        &ids.to_string(),
        &message_ids,
    ];
    transaction.execute(&schema.sql(RECORD), &parameters).await?;
    Ok(())
}

/// The ids as a set.
pub(crate) fn id_set(ids: &[i64]) -> RangeSet {
    ids.iter().map(|&id| id..id + 1).collect()
}
