//! The transactional mode: key and effects commit together, or nothing does.
//!
//! ```text
//!  BEGIN ─► claim ─► SAVEPOINT ─► handler ─┬─ below 400: RELEASE ──┬─► store answer ─► COMMIT
//!             │                            ├─ 4xx: ROLLBACK TO ────┘
//!             └ replay, 409, 422           └─ 5xx, error, panic, time is up: ROLLBACK
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
use super::layer::{Already, Exchange};
use super::problem::Problem;
use super::retain::Keep;
use super::telemetry::{UNRECORDED, Verdict};
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
        Ok(Opened::Elsewhere(already)) => {
            return Ok(exchange.already(identity, already));
        }
        Err(error) => return Ok(exchange.unavailable(&error)),
    };
    exchange.count(if identity.is_some() { Verdict::Started } else { Verdict::Unkeyed });
    request.extensions_mut().insert(tx.clone());
    let answered = match handle(&exchange.policy, service, request).await {
        Handled::Answered(answered) => answered,
        Handled::Failed(error) => {
            // The error's answer is made further out, whatever is found here.
            let _ = undo(exchange, identity, tx).await;
            return Err(error);
        }
        Handled::Broken => {
            let problem = undo(exchange, identity, tx).await.err();
            return Ok(exchange.refuse(problem.unwrap_or(Problem::HandlerFailed)));
        }
        Handled::TimedOut => {
            tracing::error!(
                route = exchange.route,
                limit = ?exchange.policy.handler_timeout,
                "a handler took too long and was rolled back"
            );
            if tx.is_sole() {
                tx.give_up().await;
            } else {
                // Behind a rollback each statement of who holds it would be a transaction of its own.
                tx.cut().await;
            }
            return Ok(exchange.refuse(Problem::HandlerTimeout));
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
    Elsewhere(Already),
}

async fn open(exchange: &Exchange, identity: Option<&Identity>) -> Result<Opened, KeyError> {
    let policy = &exchange.policy;
    let tx = Tx::begin(policy.lend().await?, policy.handler_timeout).await?;
    if let Some(identity) = identity {
        let already = match policy.table.claim(&*tx, identity.request(policy)).await? {
            Claim::Started => {
                tx.mark().await?;
                return Ok(Opened::Here(tx));
            }
            Claim::Replay(answer) => Already::Done(answer),
            Claim::InProgress { lease_left } => Already::InProgress(lease_left),
            Claim::Unknown => Already::Unknown,
            Claim::Mismatch => Already::Mismatch,
        };
        tx.roll_back().await;
        return Ok(Opened::Elsewhere(already));
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
        return Err(cut(exchange, &tx).await);
    }
    if keep == Keep::Nothing {
        return undo(exchange, identity, tx).await;
    }
    let recorded = record(exchange, identity, &tx, keep, answer).await;
    match recorded {
        Ok(()) => commit(exchange, tx).await,
        Err(error) if error.says_transaction_ended() => Err(ended(exchange, identity, tx).await),
        Err(error) => {
            tx.roll_back().await;
            Err(exchange.not_committed(&error))
        }
    }
}

/// Ends the connection under a handler that still holds the transaction after its end.
async fn cut(exchange: &Exchange, tx: &Tx) -> Problem {
    tracing::error!(
        route = exchange.route,
        "the handler still holds its transaction after its end; hint: drop every clone of Tx first"
    );
    tx.cut().await;
    Problem::HandlerFailed
}

/// Rolls everything back; the problem, if the handler had ended the transaction before.
async fn undo(exchange: &Exchange, identity: Option<&Identity>, tx: Tx) -> Result<(), Problem> {
    if !tx.is_sole() {
        return Err(cut(exchange, &tx).await);
    }
    if tx.drop_effects().await.is_err_and(|error| error.says_transaction_ended()) {
        return Err(ended(exchange, identity, tx).await);
    }
    tx.roll_back().await;
    Ok(())
}

/// The handler has ended the transaction, so that what it did is committed or not: which of the two
/// is not known here. That is the answer from now on. Without it a repetition would do everything
/// once more.
async fn ended(exchange: &Exchange, identity: Option<&Identity>, tx: Tx) -> Problem {
    let problem = Problem::TransactionEnded;
    tracing::error!(
        route = exchange.route,
        "the handler ended the layer's transaction; hint: no COMMIT or ROLLBACK on Tx, say Keep instead"
    );
    let answer = exchange.answer_of(&exchange.problem(problem));
    if let Some(identity) = identity
        && let Err(error) = keep_apart(exchange, identity, &tx, &answer).await
    {
        metrics::counter!(UNRECORDED, "route" => exchange.route.clone()).increment(1);
        tracing::error!(route = exchange.route, %error, "an answer was not recorded");
    }
    tx.roll_back().await;
    problem
}

/// Records an answer in a transaction of its own.
async fn keep_apart(
    exchange: &Exchange,
    identity: &Identity,
    tx: &Tx,
    answer: &Answer,
) -> Result<(), KeyError> {
    let policy = &exchange.policy;
    tx.begin_anew().await?;
    if policy.table.claim(&**tx, identity.request(policy)).await? == Claim::Started {
        policy.table.store(&**tx, identity.request(policy), answer).await?;
    }
    tx.end_anew().await
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
