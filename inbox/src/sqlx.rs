//! The inbox in transactions of `sqlx`.

use std::time::Instant;

use ::sqlx::{Connection, PgConnection, Row};
use tracing::Instrument;

use crate::builder::Inbox;
use crate::claim::{Claim, Failed, count};
use crate::error::{Answer, InboxError, Reaction, reaction};
use crate::fingerprint::FINGERPRINT_BYTES;
use crate::handler::HandlerError;
use crate::id::MessageId;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::process::ENDED;
use crate::record::Record;
use crate::telemetry::{claim_span, handler_span};
use crate::verdict::{UnknownVerdict, Verdict};

/// [`Inbox::process`] on a connection of sqlx.
///
/// Cancel safety: as there.
///
/// # Errors
/// See [`InboxError`].
pub async fn process<T, F>(
    inbox: &Inbox,
    connection: &mut PgConnection,
    message: &Message<'_>,
    handler: F,
) -> Result<Outcome<T>, InboxError>
where
    F: AsyncFnOnce(&mut PgConnection) -> Result<T, HandlerError>,
{
    let span = inbox.span(message);
    let outcome = Box::pin(process_in(inbox, connection, message, handler)).instrument(span).await;
    outcome.inspect_err(|error| inbox.count_retry(error.reason()))
}

async fn process_in<T, F>(
    inbox: &Inbox,
    connection: &mut PgConnection,
    message: &Message<'_>,
    handler: F,
) -> Result<Outcome<T>, InboxError>
where
    F: AsyncFnOnce(&mut PgConnection) -> Result<T, HandlerError>,
{
    let id = match inbox.admit(message) {
        Ok(id) => id,
        Err(why) => return inbox.park(connection, message, why).await,
    };
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    let mut transaction = connection.begin_with(begin).await.map_err(InboxError::of)?;
    let fingerprint = inbox.compare.then(|| message.fingerprint());
    let since = Instant::now();
    let span = claim_span();
    let claim = claim(inbox, &mut transaction, id, fingerprint).instrument(span.clone()).await?;
    inbox.claimed(since.elapsed());
    inbox.found(&span, &claim);
    let Claim { verdict, attempt } = claim;
    if let Some(outcome) = inbox.not_fresh(message, verdict) {
        transaction.rollback().await.map_err(InboxError::of)?;
        return match outcome {
            Ok(outcome) => Ok(outcome),
            Err(why) => inbox.park(connection, message, why).await,
        };
    }
    let since = Instant::now();
    let handling = handler(&mut transaction).instrument(handler_span(attempt));
    let handled = tokio::time::timeout(inbox.handler_timeout, handling).await;
    let handled = handled.unwrap_or_else(|_| Err(HandlerError::timeout(inbox.handler_timeout)));
    inbox.handled(since.elapsed(), handled.as_ref().err());
    let failure = match handled {
        Ok(value) => match transaction.commit().await {
            Ok(()) => {
                inbox.done(message, attempt);
                return Ok(Outcome::Done { value, attempt });
            }
            Err(error) => {
                match error.as_database_error().map(|a| a.constraint().map(str::to_owned)) {
                    None => return Err(InboxError::CommitUnknown(error.into())),
                    Some(constraint) => HandlerError::of(error, constraint.as_deref()),
                }
            }
        },
        Err(failure) => {
            let failure = unless_ended(&mut transaction, failure).await;
            let ended = transaction.rollback().await;
            if !failure.is_of_database() {
                ended.map_err(InboxError::of)?;
            }
            failure
        }
    };
    inbox.failed(connection, message, id, failure).await
}

/// As for tokio-postgres.
async fn unless_ended(connection: &mut PgConnection, failure: HandlerError) -> HandlerError {
    if failure.is_of_database() {
        return failure;
    }
    let found = ::sqlx::query("SAVEPOINT outbox_inbox_ended").execute(connection).await;
    let answer = found.as_ref().err().and_then(|error| error.as_database_error());
    match answer.and_then(|answer| answer.code()).as_deref() {
        Some("25P01") => HandlerError::permanent(ENDED),
        _ => failure,
    }
}

async fn claim(
    inbox: &Inbox,
    connection: &mut PgConnection,
    id: &MessageId,
    fingerprint: Option<[u8; FINGERPRINT_BYTES]>,
) -> Result<Claim, InboxError> {
    let row = ::sqlx::query(&inbox.texts.begin)
        .bind(inbox.wait_text())
        .bind(&inbox.consumer)
        .bind(id.as_str())
        .bind(fingerprint.map(|f| f.to_vec()))
        .fetch_one(connection)
        .await
        .map_err(InboxError::of)?;
    let verdict: Verdict = row
        .try_get::<&str, _>(0)
        .map_err(InboxError::of)?
        .parse()
        .map_err(|error: UnknownVerdict| InboxError::Inbox(error.into()))?;
    let attempt: Option<i32> = row.try_get(1).map_err(InboxError::of)?;
    Ok(Claim { verdict, attempt: count(attempt.unwrap_or(1)) })
}

impl Record for PgConnection {
    async fn record(
        &mut self,
        inbox: &Inbox,
        failed: &Failed<'_>,
    ) -> Result<(u32, bool), InboxError> {
        let row = ::sqlx::query(&inbox.texts.fail)
            .bind(&inbox.consumer)
            .bind(failed.message_id)
            .bind(failed.class)
            .bind(failed.error)
            .bind(i32::try_from(failed.attempts_max).unwrap_or(i32::MAX))
            .bind(&failed.headers)
            .bind(failed.payload)
            .fetch_one(self)
            .await
            .map_err(InboxError::of)?;
        let attempts: i32 = row.try_get(0).map_err(InboxError::of)?;
        Ok((count(attempts), row.try_get(1).map_err(InboxError::of)?))
    }
}

impl Answer for ::sqlx::Error {
    fn reaction(&self) -> Reaction {
        match self {
            Self::Database(answer) => reaction(answer.code().as_deref(), answer.constraint()),
            Self::Io(_) | Self::Tls(_) | Self::PoolTimedOut | Self::PoolClosed => {
                Reaction::Unavailable
            }
            _ => Reaction::Other,
        }
    }
}
