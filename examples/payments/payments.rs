//! The consumer: a message in, what its delivery is told out. It knows no broker.

use std::error::Error;
use std::time::Duration;

use deadpool_postgres::{Manager, Pool};
use outbox_inbox::idempotency::{ExternalSteps, StepError};
use outbox_inbox::schema::Schema;
use outbox_inbox::{HandlerError, Inbox, Message, Outcome, Settle};
use tokio_postgres::{NoTls, Transaction};
use tracing::warn;

use super::arguments::Settings;
use super::payment::Payment;
use super::provider::{ChargeError, Provider};

/// The step's name is part of the provider's key: it never changes.
const CHARGE: &str = "charge";
/// Without it a message that goes back for want of a database would come again at once, and again.
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) struct Payments {
    pub(crate) inbox: Inbox,
    /// Each handler holds one connection of it.
    pub(crate) pool: Pool,
    steps: ExternalSteps,
    pub(crate) provider: Provider,
}

/// What became of a message; `Err` is nothing that the message can help.
pub(crate) type Processed = Result<Outcome<()>, Box<dyn Error + Send + Sync>>;

impl Payments {
    /// Nothing is connected yet.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let inbox = Inbox::builder(&settings.consumer)
            .attempts_max(settings.attempts_max)
            .backoff(
                Duration::from_millis(settings.backoff_min_ms),
                Duration::from_millis(settings.backoff_max_ms),
            )
            .build()?;
        // Two pools: if handlers had to wait for each other's connections to record a step, and held
        // theirs meanwhile, they would wait for ever.
        let (pool, steps) = (pool(settings)?, pool(settings)?);
        let steps = ExternalSteps::new(steps, &Schema::default())
            .lease(Duration::from_millis(settings.step_lease_ms));
        let provider = Provider::new(&settings.provider)?;
        Ok(Self { inbox, pool, steps, provider })
    }

    /// Processes a message and says how to settle its delivery. When this returns, whatever has
    /// happened is committed.
    pub(crate) async fn deliver(&self, message: &Message<'_>) -> Settle {
        settled(self.process(message).await).await
    }

    async fn process(&self, message: &Message<'_>) -> Processed {
        let mut client = self.pool.get().await?;
        let handler = async |transaction: &Transaction<'_>| self.pay(transaction, message).await;
        Ok(self.inbox.process(&mut client, message, handler).await?)
    }

    /// The handler: runs for a message that was not processed before, in the transaction of its claim.
    pub(crate) async fn pay(
        &self,
        transaction: &Transaction<'_>,
        message: &Message<'_>,
    ) -> Result<(), HandlerError> {
        let payment = Payment::requested(message)?;
        let steps = self.steps.begin(&self.inbox, message).await?;
        // The provider is not part of the transaction: it gets a key that is the same at every attempt.
        let charged = steps.once(CHARGE, |key| self.provider.charge(key, &payment)).await;
        let charge = match charged {
            Err(StepError::Call(declined @ ChargeError::Declined(_))) => {
                return Err(HandlerError::permanent(declined));
            }
            charged => charged?,
        };
        payment.insert(transaction, &charge).await?;
        steps.finish_in(transaction).await?;
        Ok(())
    }
}

/// Waits as long as the outcome asks for, and then says what the delivery is told.
pub(crate) async fn settled(processed: Processed) -> Settle {
    match processed {
        Ok(outcome) => {
            tokio::time::sleep(outcome.delay()).await;
            outcome.settle()
        }
        Err(error) => {
            warn!(error = &*error as &dyn Error, "the message goes back");
            tokio::time::sleep(PAUSE).await;
            Settle::Release
        }
    }
}

/// With TLS in the place of `NoTls` where the database is not on this machine.
fn pool(settings: &Settings) -> Result<Pool, Box<dyn Error>> {
    let manager = Manager::new(settings.database_url.parse()?, NoTls);
    Ok(Pool::builder(manager).max_size(settings.concurrency.into()).build()?)
}
