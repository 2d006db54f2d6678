//! Consumers that do it wrong, each in a way that is written every day.

use outbox_inbox::{Message, Outcome, Parts};
use tokio_postgres::Transaction;
use uuid::Uuid;

use crate::example::payment::Payment;
use crate::example::payments::{Payments, Processed};
use crate::support::proof::CrashPoint;
use crate::support::proof::control::Mistake;

use super::crash;

pub(super) async fn process(
    mistake: Mistake,
    payments: &Payments,
    message: &Message<'_>,
) -> Processed {
    match mistake {
        Mistake::CheckThenInsert => check_then_insert(payments, message).await,
        Mistake::ClaimCommittedFirst => claim_committed_first(payments, message).await,
        Mistake::HashOfPayload => hash_of_payload(payments, message).await,
    }
}

/// Two that look at once both find nothing.
async fn check_then_insert(payments: &Payments, message: &Message<'_>) -> Processed {
    let mut client = payments.pool.get().await?;
    let id = message.id().map_or("", |id| id.as_str());
    let seen = "SELECT count(*) FROM seen WHERE message_id = $1";
    if client.query_one(seen, &[&id]).await?.get::<_, i64>(0) > 0 {
        return Ok(duplicate(message));
    }
    let transaction = client.transaction().await?;
    pay(payments, &transaction, message).await?;
    transaction.execute("INSERT INTO seen VALUES ($1)", &[&id]).await?;
    transaction.commit().await?;
    Ok(Outcome::Done { value: (), attempt: 1 })
}

/// Who is lost between the claim and the effect has claimed for nobody.
async fn claim_committed_first(payments: &Payments, message: &Message<'_>) -> Processed {
    let mut client = payments.pool.get().await?;
    let id = message.id().map_or("", |id| id.as_str());
    let claim = "INSERT INTO claimed VALUES ($1) ON CONFLICT DO NOTHING";
    if client.execute(claim, &[&id]).await? == 0 {
        return Ok(duplicate(message));
    }
    crash::point(CrashPoint::AfterClaim);
    let transaction = client.transaction().await?;
    pay(payments, &transaction, message).await?;
    transaction.commit().await?;
    Ok(Outcome::Done { value: (), attempt: 1 })
}

/// The inbox itself, under a key that is the same for two intentions.
async fn hash_of_payload(payments: &Payments, message: &Message<'_>) -> Processed {
    let mut client = payments.pool.get().await?;
    let payload = message.payload().unwrap_or_default();
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, payload).to_string();
    let hashed = Message::read(Parts {
        message_id: Some(&hash),
        payload: Some(payload),
        destination: message.destination(),
        ..Parts::default()
    });
    let handler = async |transaction: &Transaction<'_>| payments.pay(transaction, message).await;
    Ok(payments.inbox.process(&mut client, &hashed, handler).await?)
}

/// Nothing says that a second call is the same one.
async fn pay(
    payments: &Payments,
    transaction: &Transaction<'_>,
    message: &Message<'_>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let payment = Payment::requested(message).map_err(|error| format!("{error:?}"))?;
    let charge = payments.provider.charge(Uuid::new_v4(), &payment).await?;
    Ok(payment.insert(transaction, &charge).await?)
}

fn duplicate(message: &Message<'_>) -> Outcome<()> {
    Outcome::DuplicateIgnored { cause: message.cause() }
}
