//! What is asked for, and what is done in the database for it.

use outbox_inbox::{HandlerError, Message};
use serde::Deserialize;
use serde_json::json;
use tokio_postgres::Transaction;
use uuid::Uuid;

use super::provider::Charge;

const INSERT: &str =
    "INSERT INTO payments (payment_id, account, amount, charge) VALUES ($1, $2, $3, $4)";
const PUBLISH: &str = "SELECT outbox.publish('payment.made', $1, $2::jsonb, NULL, 'PaymentMade')";

/// The payload. It names no payment: two of the same amount from the same account are two payments, and
/// only the message's id tells them apart.
#[derive(Deserialize)]
struct PaymentRequested {
    account: String,
    /// In cents.
    amount: i64,
}

/// A payment that is asked for.
pub(crate) struct Payment {
    pub(crate) id: Uuid,
    pub(crate) account: String,
    pub(crate) amount: i64,
}

impl Payment {
    /// Reads what a message asks for. What cannot be read today cannot be read tomorrow: it is permanent.
    pub(crate) fn requested(message: &Message<'_>) -> Result<Self, HandlerError> {
        // No handler runs for a message without an id.
        let id = message.id().map_or("", |id| id.as_str());
        let id = Uuid::parse_str(id).map_err(HandlerError::permanent)?;
        let payload = message.payload().unwrap_or_default();
        let request: PaymentRequested =
            serde_json::from_slice(payload).map_err(HandlerError::permanent)?;
        if request.amount <= 0 {
            return Err(HandlerError::permanent("the amount is not positive"));
        }
        Ok(Self { id, account: request.account, amount: request.amount })
    }

    /// The effect, and the message that tells of it: with the claim, or not at all.
    pub(crate) async fn insert(
        &self,
        transaction: &Transaction<'_>,
        charge: &Charge,
    ) -> Result<(), tokio_postgres::Error> {
        let Self { id, account, amount } = self;
        transaction.execute(INSERT, &[id, account, amount, &charge.id]).await?;
        let made = json!({ "payment_id": id, "account": account, "amount": amount });
        transaction.execute(PUBLISH, &[account, &made]).await?;
        Ok(())
    }
}
