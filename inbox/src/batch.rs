//! Many messages in one transaction: for consumers whose handlers are so cheap that commits are what costs.

use std::collections::HashMap;
use std::time::Instant;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Transaction};
use tracing::{Instrument, info_span};

use crate::builder::Inbox;
use crate::claim::count;
use crate::error::InboxError;
use crate::handler::HandlerError;
use crate::message::Message;
use crate::outcome::{Outcome, Park};
use crate::process::begin;
use crate::verdict::Verdict;

impl Inbox {
    /// Processes many messages in one transaction: claims all, runs `handler` for each fresh one in their
    /// order, and commits. If anything fails, all of it is rolled back and each message is processed alone: so
    /// a handler may run twice for a message, of which the first run has left nothing in the database.
    ///
    /// What became of each message, in their order.
    ///
    /// Cancel safety: as [`process`](Self::process); what was reached one by one before stays.
    pub async fn process_batch<T, F>(
        &self,
        client: &mut Client,
        messages: &[Message<'_>],
        mut handler: F,
    ) -> Vec<Result<Outcome<T>, InboxError>>
    where
        F: AsyncFnMut(&Transaction<'_>, &Message<'_>) -> Result<T, HandlerError>,
    {
        if let Some(together) =
            Box::pin(self.process_together(client, messages, &mut handler)).await
        {
            return Box::pin(self.settle_together(client, messages, together)).await;
        }
        let mut outcomes = Vec::with_capacity(messages.len());
        for message in messages {
            let handle = async |transaction: &Transaction<'_>| handler(transaction, message).await;
            outcomes.push(self.process(client, message, handle).await);
        }
        outcomes
    }

    /// `None`: nothing happened, whatever the reason; whoever goes one by one will learn it.
    async fn process_together<T, F>(
        &self,
        client: &mut Client,
        messages: &[Message<'_>],
        handler: &mut F,
    ) -> Option<Vec<Together<T>>>
    where
        F: AsyncFnMut(&Transaction<'_>, &Message<'_>) -> Result<T, HandlerError>,
    {
        let admitted: Vec<_> = messages.iter().map(|message| self.admit(message)).collect();
        let ids: Vec<&str> = admitted.iter().flatten().map(|id| id.as_str()).collect();
        let prints: Vec<_> = messages
            .iter()
            .zip(&admitted)
            .filter(|(_, admitted)| admitted.is_ok() && self.compare)
            .map(|(message, _)| message.fingerprint())
            .collect();
        let prints = self.compare.then(|| prints.iter().map(|print| &print[..]).collect());

        let transaction = begin(client).await.ok()?;
        let since = Instant::now();
        let span = info_span!("inbox.claim", messaging.batch.message_count = ids.len());
        let claims = self.claim_batch(&transaction, &ids, prints).instrument(span);
        let verdicts = claims.await.ok()?;
        self.claimed(since.elapsed());
        let fresh = ids.iter().zip(&verdicts).filter(|(_, v)| **v == Verdict::Fresh);
        let fresh: Vec<&str> = fresh.map(|(id, _)| *id).collect();
        let attempts = self.take_failures(&transaction, &fresh).await?;
        let mut verdicts = verdicts.into_iter();
        let mut together = Vec::with_capacity(messages.len());
        for (message, admitted) in messages.iter().zip(admitted) {
            let id = match admitted {
                Ok(id) => id,
                Err(why) => {
                    together.push(Together::Park(why));
                    continue;
                }
            };
            let verdict = verdicts.next()?;
            if verdict != Verdict::Fresh {
                together.push(Together::NotFresh(verdict));
                continue;
            }
            let since = Instant::now();
            let handling =
                tokio::time::timeout(self.handler_timeout, handler(&transaction, message));
            let value = handling.await.ok()?.ok()?;
            self.handled(since.elapsed(), None);
            let attempt = attempts.get(id.as_str()).map_or(1, |failed| failed + 1);
            together.push(Together::Done { value, attempt });
        }
        transaction.commit().await.ok()?;
        Some(together)
    }

    /// After the commit: the rest is parked, and everything is said.
    async fn settle_together<T>(
        &self,
        client: &mut Client,
        messages: &[Message<'_>],
        together: Vec<Together<T>>,
    ) -> Vec<Result<Outcome<T>, InboxError>> {
        let mut outcomes = Vec::with_capacity(messages.len());
        for (message, became) in messages.iter().zip(together) {
            let park = match became {
                Together::Done { value, attempt } => {
                    self.done(message, attempt);
                    outcomes.push(Ok(Outcome::Done { value, attempt }));
                    continue;
                }
                Together::NotFresh(verdict) => match self.not_fresh(message, verdict) {
                    Some(Ok(outcome)) => {
                        outcomes.push(Ok(outcome));
                        continue;
                    }
                    Some(Err(why)) => why,
                    None => unreachable!("a verdict that is not fresh has an outcome"),
                },
                Together::Park(why) => why,
            };
            outcomes.push(self.park(client, message, park).await);
        }
        outcomes
    }

    /// Takes the failures of these messages away, and says how many there were of each.
    async fn take_failures(
        &self,
        transaction: &Transaction<'_>,
        ids: &[&str],
    ) -> Option<HashMap<String, u32>> {
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&self.consumer, Type::TEXT), (&ids, Type::TEXT_ARRAY)];
        let rows = transaction.query_typed(&self.texts.settle_batch, &parameters).await.ok()?;
        rows.iter().map(|row| Some((row.try_get(0).ok()?, count(row.try_get(1).ok()?)))).collect()
    }
}

/// What became of a message in the common transaction.
enum Together<T> {
    Done { value: T, attempt: u32 },
    NotFresh(Verdict),
    Park(Park),
}
