//! Recording a failed attempt: of both database clients.

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::builder::Inbox;
use crate::claim::{Failed, count};
use crate::error::InboxError;

/// A connection that is in no transaction.
pub(crate) trait Record {
    /// Records a failed attempt in a transaction of its own: how many there are, and whether it is parked.
    async fn record(
        &mut self,
        inbox: &Inbox,
        failed: &Failed<'_>,
    ) -> Result<(u32, bool), InboxError>;
}

impl Record for Client {
    async fn record(
        &mut self,
        inbox: &Inbox,
        failed: &Failed<'_>,
    ) -> Result<(u32, bool), InboxError> {
        let attempts_max = i32::try_from(failed.attempts_max).unwrap_or(i32::MAX);
        let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
            (&inbox.consumer, Type::TEXT),
            (&failed.message_id, Type::TEXT),
            (&failed.class, Type::TEXT),
            (&failed.error, Type::TEXT),
            (&attempts_max, Type::INT4),
            (&failed.headers, Type::JSONB),
            (&failed.payload, Type::BYTEA),
        ];
        let rows =
            self.query_typed(&inbox.texts.fail, &parameters).await.map_err(InboxError::of)?;
        let row =
            rows.first().ok_or_else(|| InboxError::Inbox("a failure without answer".into()))?;
        let attempts = row.try_get(0).map_err(InboxError::unreadable)?;
        Ok((count(attempts), row.try_get(1).map_err(InboxError::unreadable)?))
    }
}
