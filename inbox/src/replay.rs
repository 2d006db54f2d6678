//! Parked messages that a person lets through once more, from the table.

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
        let (id, payload): (&str, Option<&[u8]>) = (row.get(0), row.get(2));
        let kept: Kept =
            serde_json::from_value(row.get(1)).map_err(|error| InboxError::Inbox(error.into()))?;
        let message = kept.message(id, payload);
        let handle = async |transaction: &Transaction<'_>| handler(transaction, &message).await;
        let outcome = self.process(client, &message, handle).await?;
        if let Outcome::DuplicateIgnored { .. } | Outcome::StaleIgnored = outcome {
            // It came another way meanwhile. Without this it would be taken again, for ever.
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
