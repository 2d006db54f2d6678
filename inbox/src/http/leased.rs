//! The leased mode: for effects that no transaction of ours holds.
//!
//! ```text
//!  begin ─► handler, with its steps ─┬─► finish(answer) ─► answer
//!    │          lease renewed           ├─► 5xx, panic, time is up: suspend, the next one goes on there
//!    │ replay, 409, 422                 └ the lease was lost: 409, and this answer is not given
//! ```
//!
//! What the handler did outside is done, whatever it answers: so an answer is kept, and a failure
//! is not the last word. The next request under the key runs the handler again, and no step that
//! was recorded is made again. A process that is killed leaves its lease to run out. Then the next
//! attempt takes it up at its recovery point, or answers that the outcome is unknown.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::admit::Identity;
use super::body::ReplyBody;
use super::handle::{Answered, Handled, handle};
use super::layer::{Already, Exchange};
use super::problem::Problem;
use super::retain::Keep;
use super::telemetry::{LEASE_LOST, UNRECORDED, Verdict};
use crate::idempotency::{Answer, Begin, KeyError, Lease, LeaseError, ResumeAt, Steps};

/// A lease of a few milliseconds is a mistake, which must not become a flood of statements.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

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
    let already = |already| Ok(exchange.already(Some(identity), already));
    let (verdict, lease) = match begin(exchange, identity, duration, resume_at).await {
        Ok(Begin::Started(lease)) => (Verdict::Started, lease),
        Ok(Begin::Resumed(lease)) => (Verdict::Resumed, lease),
        Ok(Begin::Replay(answer)) => return already(Already::Done(answer)),
        Ok(Begin::InProgress { lease_left }) => return already(Already::InProgress(lease_left)),
        Ok(Begin::Unknown) => return already(Already::Unknown),
        Ok(Begin::Mismatch) => return already(Already::Mismatch),
        Err(error) => return Ok(exchange.unavailable(&error)),
    };
    exchange.count(verdict);
    let span = tracing::Span::current();
    span.record("idempotency.attempt", lease.attempt);
    span.record("idempotency.recovery_point", lease.recovery_point.as_str());

    let policy = &exchange.policy;
    let steps = Steps::new(policy.table.clone(), policy.connections.clone(), lease.clone());
    request.extensions_mut().insert(steps);
    let handled = {
        let mut handling = pin!(handle(policy, service, request));
        let mut renewing = pin!(renew(exchange, &lease));
        // The renewal never ends by itself; with the handler it is dropped.
        poll_fn(|context| {
            let _ = renewing.as_mut().poll(context);
            handling.as_mut().poll(context)
        })
        .await
    };
    match handled {
        Handled::Answered(answered) => {
            let Answered { response, answer, keep } = *answered;
            let ended = match keep {
                Some(Keep::Nothing) => give_back(exchange, &lease).await,
                None if Keep::by_status(response.status()) == Keep::Nothing => {
                    suspend(exchange, &lease).await
                }
                _ => finish(exchange, &lease, &answer).await,
            };
            Ok(given(exchange, ended, response))
        }
        Handled::Failed(error) => {
            let ended = suspend(exchange, &lease).await;
            note(exchange, &ended);
            Err(error)
        }
        Handled::Broken => Ok(broken_off(exchange, &lease, Problem::HandlerLost).await),
        Handled::TimedOut => {
            tracing::error!(
                route = exchange.route,
                limit = ?policy.handler_timeout,
                "a handler took too long and was dropped"
            );
            Ok(broken_off(exchange, &lease, Problem::HandlerTimeout).await)
        }
    }
}

/// The handler has stopped somewhere. What it recorded is known, and the next one goes on behind
/// that.
async fn broken_off<B>(
    exchange: &Exchange,
    lease: &Lease,
    problem: Problem,
) -> Response<ReplyBody<B>> {
    let ended = suspend(exchange, lease).await;
    exchange.log(problem);
    given(exchange, ended, exchange.problem(problem).map(ReplyBody::from))
}

async fn begin(
    exchange: &Exchange,
    identity: &Identity,
    duration: Duration,
    resume_at: &ResumeAt,
) -> Result<Begin, KeyError> {
    let policy = &exchange.policy;
    let connection = policy.lend().await?;
    policy.table.begin(connection.client(), identity.request(policy), duration, resume_at).await
}

/// Holds the lease on for as long as it is polled: three tries to a lease, so that one may fail.
async fn renew(exchange: &Exchange, lease: &Lease) {
    let policy = &exchange.policy;
    let pause = (lease.duration / 3).max(SHORTEST_PAUSE);
    loop {
        tokio::time::sleep(pause).await;
        let renewed = async {
            let connection = policy.lend().await.map_err(KeyError::from)?;
            policy.table.renew(connection.client(), lease).await
        };
        match tokio::time::timeout(lease.duration, renewed).await {
            Ok(Ok(())) => {}
            Ok(Err(error @ LeaseError::Lost)) => {
                // The handler learns it when it records something.
                tracing::warn!(route = exchange.route, %error, "a lease could not be renewed");
                return std::future::pending().await;
            }
            Ok(Err(LeaseError::Key(error))) => {
                tracing::warn!(route = exchange.route, %error, "a lease could not be renewed");
            }
            Err(_) => {
                tracing::warn!(route = exchange.route, "a lease could not be renewed in time");
            }
        }
    }
}

/// On a connection of its own: none was held while the handler worked.
async fn finish(exchange: &Exchange, lease: &Lease, answer: &Answer) -> Result<(), LeaseError> {
    let policy = &exchange.policy;
    let connection = policy.lend_to_finish().await.map_err(KeyError::from)?;
    policy.table.finish(connection.client(), lease, answer).await
}

/// No answer is kept, and the key stays its request's: the next one goes on behind what is
/// recorded.
async fn suspend(exchange: &Exchange, lease: &Lease) -> Result<(), LeaseError> {
    let policy = &exchange.policy;
    let connection = policy.lend_to_finish().await.map_err(KeyError::from)?;
    policy.table.suspend(connection.client(), lease).await
}

/// The handler says that it did nothing, so the key is as if it had never been used. If a step is
/// recorded, it is mistaken.
async fn give_back(exchange: &Exchange, lease: &Lease) -> Result<(), LeaseError> {
    let policy = &exchange.policy;
    let connection = policy.lend_to_finish().await.map_err(KeyError::from)?;
    match policy.table.release(connection.client(), lease).await {
        Err(LeaseError::Lost) => policy.table.suspend(connection.client(), lease).await,
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
