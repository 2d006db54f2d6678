//! Everything that a reader asks, prepared on its session.

use super::column::ROW_COST_MAX;
use super::error::{ReadError, classify};
use super::holder::Holders;
use super::lock::Locks;
use super::poll::Poll;
use super::retry::Retry;
use super::session;
use crate::config::SourceConfig;
use crate::database::Session;
use crate::schema::Schema;

/// The prepared statements.
pub(super) struct Statements {
    /// Rows that one read shows at most.
    pub(super) batch_rows: usize,
    pub(super) poll: Poll,
    pub(super) retry: Retry,
    pub(super) locks: Locks,
    pub(super) holders: Holders,
}

impl Statements {
    /// Sets the session up and prepares them.
    pub(super) async fn prepare(
        client: &Session,
        schema: &Schema,
        target: &str,
        limits: &SourceConfig,
    ) -> Result<Self, ReadError> {
        let failed = |error| classify("preparing to read the outbox", error);
        let deadline = client.deadline();
        deadline.answer(session::set(client)).await?.map_err(failed)?;
        let (batch_rows, row_max) = (batch_rows(limits), limits.row_bytes_max);
        let poll = Poll::prepare(client, schema, target, batch_rows, row_max);
        let retry = Retry::prepare(client, schema, target, batch_rows, row_max);
        Ok(Self {
            batch_rows,
            poll: deadline.answer(poll).await?.map_err(failed)?,
            retry: deadline.answer(retry).await?.map_err(failed)?,
            locks: deadline.answer(Locks::prepare(client, schema)).await??,
            holders: deadline.answer(Holders::prepare(client, schema)).await?.map_err(failed)?,
        })
    }
}

/// Rows of a read, so that the worst of them fit half of the budget: the other half is then never
/// the reader's own, and room for a large payload comes.
fn batch_rows(limits: &SourceConfig) -> usize {
    let fitting = limits.prefetch_bytes_max / 2 / ROW_COST_MAX;
    limits.batch_rows_max.min(limits.prefetch_rows_max).min(fitting).max(1)
}
