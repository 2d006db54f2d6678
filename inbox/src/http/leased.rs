//! The leased mode: for effects that no transaction of ours holds.
//!
//! ```text
//!  begin ─► handler, with its steps ─► finish(answer) ─► answer
//!    │ replay, 409, 422                  └ the lease was lost: 409, and nobody gets this answer
//! ```
//!
//! Once begun, every answer is kept, a 500 too: what the handler did outside is done. A process that is
//! killed leaves its lease to run out. Then the next attempt takes it up at its recovery point, or is
//! told that the outcome is unknown; it never runs blindly from the start.

use std::error::Error;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::admit::Identity;
use super::body::ReplyBody;
use super::handle::{Answered, Handled, handle};
use super::layer::Exchange;
use super::problem::Problem;
use super::retain::Keep;
use super::telemetry::{LEASE_LOST, UNRECORDED, Verdict};
use crate::idempotency::{Answer, Begin, KeyError, Lease, LeaseError, ResumeAt, Steps};

/// Does a request under a lease.
pub(super) async fn run<S, Q, R>(
    exchange: &Exchange,
    identity: &Identity,
    (duration, resume_at): (Duration, &ResumeAt),
    service: S,
    mut request: Request<Q>,
) -> Result<Response<ReplyBody<R>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>>,
    R: Body,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (verdict, lease) = match begin(exchange, identity, duration, resume_at).await {
        Ok(Begin::Started(lease)) => (Verdict::Started, lease),
        Ok(Begin::Resumed(lease)) => (Verdict::Resumed, lease),
        Ok(Begin::Replay(answer)) => {
            return Ok(exchange.already(Some(identity), Verdict::Replay, Some(answer)));
        }
        Ok(Begin::InProgress) => {
            return Ok(exchange.already(Some(identity), Verdict::InProgress, None));
        }
        Ok(Begin::Unknown) => return Ok(exchange.already(Some(identity), Verdict::Unknown, None)),
        Ok(Begin::Mismatch) => {
            return Ok(exchange.already(Some(identity), Verdict::Mismatch, None));
        }
        Err(error) => return Ok(exchange.unavailable(&error)),
    };
    exchange.count(verdict);
    let span = tracing::Span::current();
    span.record("idempotency.attempt", lease.attempt);
    span.record("idempotency.recovery_point", lease.recovery_point.as_str());

    let policy = &exchange.policy;
    let steps = Steps::new(policy.table.clone(), policy.connections.clone(), lease.clone());
    request.extensions_mut().insert(steps);
    match handle(policy, service, request).await {
        Handled::Answered(answered) => {
            let Answered { response, answer, keep } = *answered;
            let ended = if keep == Some(Keep::Nothing) {
                release(exchange, &lease, &answer).await
            } else {
                finish(exchange, &lease, &answer).await
            };
            Ok(given(exchange, ended, response))
        }
        Handled::Failed(error) => {
            // The error's answer is made further out, and is not known here.
            let answer = exchange.answer_of(&exchange.problem(Problem::HandlerLost));
            let ended = finish(exchange, &lease, &answer).await;
            note(exchange, &ended);
            Err(error)
        }
        Handled::Broken => {
            let response = exchange.problem(Problem::HandlerLost);
            let answer = exchange.answer_of(&response);
            let ended = finish(exchange, &lease, &answer).await;
            exchange.log(Problem::HandlerLost);
            Ok(given(exchange, ended, response.map(ReplyBody::from)))
        }
    }
}

async fn begin(
    exchange: &Exchange,
    identity: &Identity,
    duration: Duration,
    resume_at: &ResumeAt,
) -> Result<Begin, KeyError> {
    let policy = &exchange.policy;
    let connection = policy.connections.lend().await?;
    policy.table.begin(connection.client(), identity.request(policy), duration, resume_at).await
}

/// On a connection of its own: none was held while the handler worked.
async fn finish(exchange: &Exchange, lease: &Lease, answer: &Answer) -> Result<(), LeaseError> {
    let policy = &exchange.policy;
    let connection = policy.connections.lend().await.map_err(KeyError::from)?;
    policy.table.finish(connection.client(), lease, answer).await
}

/// The handler says that it did nothing. If a phase is recorded, it is mistaken, and its answer is kept.
async fn release(exchange: &Exchange, lease: &Lease, answer: &Answer) -> Result<(), LeaseError> {
    let policy = &exchange.policy;
    let connection = policy.connections.lend().await.map_err(KeyError::from)?;
    match policy.table.release(connection.client(), lease).await {
        Err(LeaseError::Lost) => policy.table.finish(connection.client(), lease, answer).await,
        ended => ended,
    }
}

/// Who was overtaken gives no answer: the other attempt's is the one that counts. One that could not be
/// recorded is given all the same, since what it tells has happened.
fn given<B>(
    exchange: &Exchange,
    ended: Result<(), LeaseError>,
    response: Response<ReplyBody<B>>,
) -> Response<ReplyBody<B>> {
    note(exchange, &ended);
    match ended {
        Err(LeaseError::Lost) => exchange.refuse(Problem::LeaseLost),
        Ok(()) | Err(LeaseError::Key(_)) => response,
    }
}

fn note(exchange: &Exchange, ended: &Result<(), LeaseError>) {
    match ended {
        Ok(()) => {}
        Err(error @ LeaseError::Lost) => {
            metrics::counter!(LEASE_LOST, "route" => exchange.route.clone()).increment(1);
            tracing::warn!(route = exchange.route, %error, "an answer was not given");
        }
        Err(LeaseError::Key(error)) => {
            metrics::counter!(UNRECORDED, "route" => exchange.route.clone()).increment(1);
            tracing::error!(route = exchange.route, %error, "an answer was not recorded");
        }
    }
}
