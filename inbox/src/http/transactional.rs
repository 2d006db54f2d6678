//! The transactional mode: key and effects commit together, or nothing does.
//!
//! ```text
//!  BEGIN ─► claim ─► SAVEPOINT ─► handler ─┬─ below 400: RELEASE ──┬─► store answer ─► COMMIT
//!             │                            ├─ 4xx: ROLLBACK TO ────┘
//!             └ replay, 409, 422           └─ 5xx, error, panic: ROLLBACK
//! ```
//!
//! Killed anywhere, the server rolls back, the lock goes, and the repetition is the first.

use std::error::Error;

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::admit::Identity;
use super::body::ReplyBody;
use super::handle::{Answered, Handled, handle};
use super::layer::Exchange;
use super::problem::Problem;
use super::retain::Keep;
use super::telemetry::Verdict;
use super::transaction::{CommitError, Tx};
use crate::idempotency::{Answer, Claim, KeyError};

/// Does a request in a transaction of its own; without an identity it is not protected.
pub(super) async fn run<S, Q, R>(
    exchange: &Exchange,
    identity: Option<&Identity>,
    service: S,
    mut request: Request<Q>,
) -> Result<Response<ReplyBody<R>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>>,
    R: Body,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let tx = match open(exchange, identity).await {
        Ok(Opened::Here(tx)) => tx,
        Ok(Opened::Elsewhere(verdict, answer)) => {
            return Ok(exchange.already(identity, verdict, answer));
        }
        Err(error) => return Ok(exchange.unavailable(&error)),
    };
    exchange.count(if identity.is_some() { Verdict::Started } else { Verdict::Unkeyed });
    request.extensions_mut().insert(tx.clone());
    let answered = match handle(&exchange.policy, service, request).await {
        Handled::Answered(answered) => answered,
        Handled::Failed(error) => {
            tx.roll_back().await;
            return Err(error);
        }
        Handled::Broken => {
            tx.roll_back().await;
            return Ok(exchange.refuse(Problem::HandlerFailed));
        }
    };
    let Answered { mut response, answer, keep } = *answered;
    // What the handler put there of the request would keep the transaction from being the layer's.
    response.extensions_mut().remove::<Tx>();
    let keep = keep.unwrap_or_else(|| Keep::by_status(response.status()));
    match settle(exchange, identity, tx, keep, &answer).await {
        Ok(()) => Ok(response),
        Err(problem) => Ok(exchange.refuse(problem)),
    }
}

/// Where a request is done.
enum Opened {
    /// In this transaction.
    Here(Tx),
    /// It is done, or being done.
    Elsewhere(Verdict, Option<Answer>),
}

async fn open(exchange: &Exchange, identity: Option<&Identity>) -> Result<Opened, KeyError> {
    let policy = &exchange.policy;
    let tx = Tx::begin(&policy.connections).await?;
    if let Some(identity) = identity {
        let (verdict, answer) = match policy.table.claim(&*tx, identity.request(policy)).await? {
            Claim::Started => {
                tx.mark().await?;
                return Ok(Opened::Here(tx));
            }
            Claim::Replay(answer) => (Verdict::Replay, Some(answer)),
            Claim::InProgress => (Verdict::InProgress, None),
            Claim::Unknown => (Verdict::Unknown, None),
            Claim::Mismatch => (Verdict::Mismatch, None),
        };
        tx.roll_back().await;
        return Ok(Opened::Elsewhere(verdict, answer));
    }
    tx.mark().await?;
    Ok(Opened::Here(tx))
}

/// Ends the transaction as the answer demands.
async fn settle(
    exchange: &Exchange,
    identity: Option<&Identity>,
    tx: Tx,
    keep: Keep,
    answer: &Answer,
) -> Result<(), Problem> {
    if !tx.is_sole() {
        tracing::error!(
            route = exchange.route,
            "the handler still holds its transaction after its response; hint: drop every clone of Tx first"
        );
        tx.cut().await;
        return Err(Problem::HandlerFailed);
    }
    if keep == Keep::Nothing {
        tx.roll_back().await;
        return Ok(());
    }
    let recorded = record(exchange, identity, &tx, keep, answer).await;
    match recorded {
        Ok(()) => commit(exchange, tx).await,
        Err(error) => {
            tx.roll_back().await;
            Err(exchange.not_committed(&error))
        }
    }
}

async fn record(
    exchange: &Exchange,
    identity: Option<&Identity>,
    tx: &Tx,
    keep: Keep,
    answer: &Answer,
) -> Result<(), KeyError> {
    if keep == Keep::Everything {
        tx.keep_effects().await?;
    } else {
        tx.drop_effects().await?;
    }
    let Some(identity) = identity else { return Ok(()) };
    let policy = &exchange.policy;
    policy.table.store(&**tx, identity.request(policy), answer).await
}

async fn commit(exchange: &Exchange, tx: Tx) -> Result<(), Problem> {
    match tx.commit().await {
        Ok(()) => Ok(()),
        Err(CommitError::RolledBack(error)) => Err(exchange.not_committed(&error)),
        Err(CommitError::Unknown(error)) => {
            tracing::error!(route = exchange.route, %error, "the connection was lost in the commit");
            Err(Problem::CommitUnknown)
        }
    }
}
