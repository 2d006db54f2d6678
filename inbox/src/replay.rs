//! Parked messages that a person lets through once more, from the table.

use serde_json::Value;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Transaction};

use crate::builder::Inbox;
use crate::error::InboxError;
use crate::handler::HandlerError;
use crate::keep::Kept;
use crate::message::Message;
use crate::outcome::Outcome;

impl Inbox {
    /// Processes the parked message that was first marked for a replay (`outbox-relay inbox failures
    /// replay`, or `outbox.inbox_replay`); `None` if there is none. Call it now and then. One more failure
    /// parks it again.
    ///
    /// Cancel safety: as [`process`](Self::process).
    ///
    /// # Errors
    /// See [`InboxError`].
    pub async fn process_replay<T, F>(
        &self,
        client: &mut Client,
        handler: F,
    ) -> Result<Option<Outcome<T>>, InboxError>
    where
        F: AsyncFnOnce(&Transaction<'_>, &Message<'_>) -> Result<T, HandlerError>,
    {
        let consumer: [(&(dyn ToSql + Sync), Type); 1] = [(&self.consumer, Type::TEXT)];
        let rows = client.query_typed(&self.texts.take, &consumer).await.map_err(InboxError::of)?;
        let Some(row) = rows.first() else { return Ok(None) };
        let id: &str = row.try_get(0).map_err(InboxError::of)?;
        let payload: Option<&[u8]> = row.try_get(2).map_err(InboxError::of)?;
        // What another program kept may look otherwise: then the message has no headers. As an
        // error it would keep every other replay back.
        let kept: Option<Value> = row.try_get(1).unwrap_or_default();
        let kept: Kept = kept.map(serde_json::from_value).and_then(Result::ok).unwrap_or_default();
        let message = kept.message(id, payload);
        let handle = async |transaction: &Transaction<'_>| handler(transaction, &message).await;
        let outcome = self.process(client, &message, handle).await?;
        if let Outcome::DuplicateIgnored { .. } | Outcome::StaleIgnored | Outcome::Parked { .. } =
            outcome
        {
            // It came another way meanwhile, or it is parked again, maybe under another name.
            // Without this it would be taken again and again.
            let parameters: [(&(dyn ToSql + Sync), Type); 2] =
                [(&self.consumer, Type::TEXT), (&vec![id], Type::TEXT_ARRAY)];
            client
                .query_typed(&self.texts.settle_batch, &parameters)
                .await
                .map_err(InboxError::of)?;
        }
        Ok(Some(outcome))
    }
}
