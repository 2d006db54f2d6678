//! One message, one transaction: claim, handler, commit; or what is recorded instead.

use std::time::Instant;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, IsolationLevel, Transaction};
use tracing::Instrument;
use uuid::Uuid;

use crate::backoff::fraction;
use crate::builder::{Inbox, OnStale};
use crate::claim::{Claim, Failed};
use crate::error::{InboxError, Reaction};
use crate::handler::{Failure, HandlerError};
use crate::id::MessageId;
use crate::keep::{Kept, storable};
use crate::message::Message;
use crate::outcome::{Outcome, Park};
use crate::record::Record;
use crate::telemetry::{claim_span, handler_span};
use crate::verdict::Verdict;

/// What was done before is committed with the claim, so no other attempt would come to the rest.
pub(crate) const ENDED: &str = "the handler ended the inbox's transaction: what it did before that is committed or not, and with a commit the \
     message counts as processed; hint: look what was done, then `outbox-relay inbox failures discard`, or `inbox forget` and replay";

impl Inbox {
    /// Processes a message: claims it and runs `handler` in one transaction, which it commits. What the
    /// handler writes through the transaction it is given, follow-up messages for an outbox included, has
    /// happened if and only if the message is claimed. A message that was processed runs no handler.
    ///
    /// Settle the delivery after that, as the [`Outcome`] says, and at an error by
    /// [`InboxError::settle`].
    ///
    /// Cancel safety: a dropped future leaves the transaction rolled back, or committed if it was
    /// already on its way; the delivery then comes again and finds out. The connection rolls back what is
    /// open before its next statement.
    ///
    /// # Errors
    /// Whatever is not the message's fault: see [`InboxError`].
    pub async fn process<T, F>(
        &self,
        client: &mut Client,
        message: &Message<'_>,
        handler: F,
    ) -> Result<Outcome<T>, InboxError>
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<T, HandlerError>,
    {
        let span = self.span(message);
        // Boxed: the future of a handler may be large, and those of its callers with it.
        let outcome = Box::pin(self.process_in(client, message, handler)).instrument(span).await;
        outcome.inspect_err(|error| self.count_retry(error.reason()))
    }

    async fn process_in<T, F>(
        &self,
        client: &mut Client,
        message: &Message<'_>,
        handler: F,
    ) -> Result<Outcome<T>, InboxError>
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<T, HandlerError>,
    {
        let id = match self.admit(message) {
            Ok(id) => id,
            Err(why) => return self.park(client, message, why).await,
        };
        let transaction = begin(client).await?;
        let fingerprint = self.compare.then(|| message.fingerprint());
        let since = Instant::now();
        let span = claim_span();
        let claim = self.claim(&transaction, id, fingerprint).instrument(span.clone()).await?;
        self.claimed(since.elapsed());
        self.found(&span, &claim);
        let Claim { verdict, attempt } = claim;
        if let Some(outcome) = self.not_fresh(message, verdict) {
            // It wrote nothing.
            transaction.rollback().await.map_err(InboxError::of)?;
            return match outcome {
                Ok(outcome) => Ok(outcome),
                Err(why) => self.park(client, message, why).await,
            };
        }
        let since = Instant::now();
        let handling = handler(&transaction).instrument(handler_span(attempt));
        let handled = match tokio::time::timeout(self.handler_timeout, handling).await {
            Ok(handled) => handled,
            Err(_) => Err(HandlerError::timeout(self.handler_timeout)),
        };
        self.handled(since.elapsed(), handled.as_ref().err());
        let failure = match handled {
            Ok(value) => match transaction.commit().await {
                Ok(()) => {
                    self.done(message, attempt);
                    return Ok(Outcome::Done { value, attempt });
                }
                Err(error) => refused_commit(error)?,
            },
            Err(failure) => {
                let failure = unless_ended(&transaction, failure).await;
                // Where it cannot be rolled back, the database is away, and it is rolled back.
                let ended = transaction.rollback().await;
                if !failure.is_of_database() {
                    ended.map_err(InboxError::of)?;
                }
                failure
            }
        };
        self.failed(client, message, id, failure).await
    }

    /// The id of a message that may be claimed, or why it may not.
    pub(crate) fn admit<'m>(&self, message: &'m Message<'_>) -> Result<&'m MessageId, Park> {
        message.id().ok_or(Park::MissingId)
    }

    /// What becomes of a message that is not fresh; `Err`: it is parked.
    pub(crate) fn not_fresh<T>(
        &self,
        message: &Message<'_>,
        verdict: Verdict,
    ) -> Option<Result<Outcome<T>, Park>> {
        let outcome = match (verdict, self.on_stale) {
            (Verdict::Fresh, _) => return None,
            (Verdict::Duplicate, _) => Ok(Outcome::DuplicateIgnored { cause: message.cause() }),
            (Verdict::Stale, OnStale::Ignore) => Ok(Outcome::StaleIgnored),
            (Verdict::Stale, OnStale::Park) => Err(Park::Stale),
            (Verdict::Mismatch, _) => Err(Park::Mismatch),
            // Without this an id of the next century would hold its queue up for so long.
            (Verdict::Unusable, _) => Err(Park::Future),
        };
        if outcome.is_ok() {
            self.duplicate_ignored(message, verdict.as_str());
        }
        Some(outcome)
    }

    /// Parks a message that no handler has seen.
    pub(crate) async fn park<T>(
        &self,
        connection: &mut impl Record,
        message: &Message<'_>,
        why: Park,
    ) -> Result<Outcome<T>, InboxError> {
        // It is nobody's: each delivery of it is parked under a name of its own.
        let nobody = || format!("unidentified:{}", Uuid::now_v7());
        let id = match why {
            // Under the id stands the message that has it already.
            Park::Mismatch => format!("mismatch:{}", hash_of(message)),
            _ => message.id().map_or_else(nobody, ToString::to_string),
        };
        let (headers, payload) = self.kept(message);
        let failed = Failed {
            message_id: &id,
            class: why.as_str(),
            error: "",
            attempts_max: 0,
            headers,
            payload,
        };
        let (attempts, _) = connection.record(self, &failed).await?;
        self.parked(message, why, attempts, None);
        Ok(Outcome::Parked { why, attempts })
    }

    /// Records a failed attempt, and decides what follows.
    pub(crate) async fn failed<T>(
        &self,
        connection: &mut impl Record,
        message: &Message<'_>,
        id: &MessageId,
        failure: HandlerError,
    ) -> Result<Outcome<T>, InboxError> {
        let at_once = match &failure.failure {
            Failure::Database(reaction) => {
                return Err(unavailable(*reaction, failure));
            }
            Failure::Permanent => Some(Park::Permanent),
            Failure::Exists { .. } => Some(Park::AlreadyExists),
            Failure::Transient | Failure::Timeout => None,
        };
        let (headers, payload) = self.kept(message);
        let error = storable(&failure.chain());
        let failed = Failed {
            message_id: id.as_str(),
            class: failure.failure.class(),
            error: &error,
            attempts_max: if at_once.is_some() { 0 } else { self.attempts_max },
            headers,
            payload,
        };
        let (attempts, parked) = connection.record(self, &failed).await?;
        if parked {
            let why = at_once.unwrap_or(Park::Attempts);
            self.parked(message, why, attempts, Some(&failure));
            return Ok(Outcome::Parked { why, attempts });
        }
        self.retried(message, &failure, attempts);
        let after = self.backoff.delay(attempts, fraction());
        Ok(Outcome::Retry { attempt: attempts, after })
    }

    fn kept<'m>(&self, message: &'m Message<'_>) -> (Option<serde_json::Value>, Option<&'m [u8]>) {
        let Some(bytes_max) = self.keep_bytes_max else { return (None, None) };
        let payload = message.payload();
        // A payload that is missing must not be replayed as an empty one.
        if payload.is_some_and(|payload| payload.len() > bytes_max) {
            return (None, None);
        }
        (serde_json::to_value(Kept::of(message)).ok(), payload)
    }
}

/// READ COMMITTED whatever the default is: there a claim that had to wait is a duplicate, elsewhere an error.
pub(crate) async fn begin(client: &mut Client) -> Result<Transaction<'_>, InboxError> {
    let builder = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
    builder.read_only(false).start().await.map_err(InboxError::of)
}

/// An answer says that it is rolled back; without one nobody knows.
pub(crate) fn refused_commit(error: tokio_postgres::Error) -> Result<HandlerError, InboxError> {
    match error.as_db_error() {
        None => Err(InboxError::CommitUnknown(error.into())),
        Some(answer) => {
            let constraint = answer.constraint().map(str::to_owned);
            Ok(HandlerError::of(error, constraint.as_deref()))
        }
    }
}

/// The failure, or, if the handler had ended the transaction before, that one: nothing of it is a
/// rollback.
async fn unless_ended(transaction: &Transaction<'_>, failure: HandlerError) -> HandlerError {
    if failure.is_of_database() {
        return failure;
    }
    // In a transaction that failed, this is another error.
    let found = transaction.batch_execute("SAVEPOINT outbox_inbox_ended").await;
    match found.err().as_ref().and_then(tokio_postgres::Error::code) {
        Some(&SqlState::NO_ACTIVE_SQL_TRANSACTION) => HandlerError::permanent(ENDED),
        _ => failure,
    }
}

pub(crate) fn unavailable(reaction: Reaction, failure: HandlerError) -> InboxError {
    let source = failure.into_source();
    match reaction {
        Reaction::Busy => InboxError::Busy(source),
        Reaction::Conflict => InboxError::Conflict(source),
        _ => InboxError::Unavailable(source),
    }
}

fn hash_of(message: &Message<'_>) -> String {
    let fingerprint = message.fingerprint().iter().map(|b| format!("{b:02x}")).collect::<String>();
    let id = message.id().map(MessageId::hash).unwrap_or_default();
    format!("{id}:{fingerprint}")
}
