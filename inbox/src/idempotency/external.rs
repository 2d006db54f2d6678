//! The external steps of messages: begun within the handler of a claimed message.

use std::time::{Duration, Instant};

use super::request::KeyRequest;
use super::step::{External, Steps};
use super::table::KeyTable;
use crate::builder::Inbox;
use crate::connection::Connections;
use crate::handler::HandlerError;
use crate::message::Message;
use crate::schema::Schema;

/// Short, since it is the claim of the message that keeps others out: who was lost has lost the claim as
/// well, and its successor need not wait long for the lease. Each step that is recorded holds it on.
pub const DEFAULT_EXTERNAL_LEASE: Duration = Duration::from_secs(10);

/// Between two looks at a lease that somebody else has.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Longer than an inbox remembers a message, after which it is stale: no step can be wanted again.
pub const DEFAULT_EXTERNAL_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Begins the external steps of messages.
///
/// ```
/// # use outbox_inbox::{HandlerError, Inbox, InboxError, Message, Outcome};
/// # use outbox_inbox::idempotency::ExternalSteps;
/// # async fn charge(key: uuid::Uuid) -> Result<String, std::io::Error> { Ok(key.to_string()) }
/// # async fn consume(inbox: Inbox, external: ExternalSteps, client: &mut tokio_postgres::Client, message: Message<'_>)
/// # -> Result<Outcome<()>, InboxError> {
/// inbox.process(client, &message, async |transaction| {
///     let steps = external.begin(&inbox, &message).await?;
///     let charge = steps.once("charge", |key| charge(key)).await?;
///     transaction.execute("INSERT INTO payments (charge) VALUES ($1)", &[&charge]).await?;
///     steps.finish_in(transaction).await?; // with the payment and the claim, or not at all
///     Ok(())
/// })
/// .await
/// # }
/// ```
///
/// A message that is a duplicate or stale never gets that far, so nobody is called for it. The
/// transaction stays open while others are called, which a short time limit of theirs should bound.
#[derive(Debug, Clone)]
pub struct ExternalSteps {
    table: KeyTable,
    connections: Connections,
    lease: Duration,
    ttl: Duration,
}

impl ExternalSteps {
    /// On connections other than the handler's: what a step returned is recorded also when its handler
    /// fails afterwards.
    #[must_use]
    pub fn new(connections: impl Into<Connections>, schema: &Schema) -> Self {
        Self {
            table: KeyTable::new(schema),
            connections: connections.into(),
            lease: DEFAULT_EXTERNAL_LEASE,
            ttl: DEFAULT_EXTERNAL_TTL,
        }
    }

    /// How long a step may take before a successor may take it up.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long the steps are remembered; at least as long as the inbox remembers the message.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The steps of a message, from where they were left. The scope of their keys is `consumer:NAME`, the
    /// key is the message id.
    ///
    /// Who was lost leaves a lease that lasts: it is waited for, as long as a lease can last. Without that
    /// the message would go back, come again at once, and again, and the broker would count.
    ///
    /// Cancel safety: a dropped future may leave the lease behind, which then ends by itself.
    ///
    /// # Errors
    /// No attempt of the message's, if another one holds the lease on, or the database is away. Permanent,
    /// if the steps are another message's, or are finished although the message is not: a person forgot
    /// one of the two.
    pub async fn begin(&self, inbox: &Inbox, message: &Message<'_>) -> Result<Steps, HandlerError> {
        // No handler runs for a message without an id.
        let key = message.id().map_or("", |id| id.as_str());
        let scope = format!("consumer:{}", inbox.consumer);
        let fingerprint = message.fingerprint();
        let request = KeyRequest { scope: &scope, key, fingerprint: &fingerprint, ttl: self.ttl };
        let deadline = Instant::now() + self.lease + LOOK_INTERVAL;
        loop {
            match Steps::begin(&self.table, &self.connections, request, self.lease).await? {
                External::Steps(steps) => return Ok(steps),
                External::InProgress if Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
                External::InProgress => {
                    return Err(HandlerError::busy("another attempt is at the external steps"));
                }
                External::Mismatch => {
                    return Err(HandlerError::permanent(
                        "the external steps are another message's",
                    ));
                }
                External::Done => {
                    return Err(HandlerError::permanent("the external steps are finished"));
                }
            }
        }
    }
}
