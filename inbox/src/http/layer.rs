//! The layer: lets a request in, does it on a task of its own, answers.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio_util::task::TaskTracker;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Instrument;

use super::admit::{self, Identity};
use super::body::{ReplyBody, read};
use super::builder::Builder;
use super::policy::{Mode, Policy};
use super::problem::Problem;
use super::replay::{replay, say_what_is_kept};
use super::retain::stored;
use super::telemetry::{REQUESTS, Verdict};
use super::{leased, transactional};
use crate::connection::Connections;
use crate::idempotency::{Answer, KeyError};

/// Puts `Idempotency-Key` in front of a service. Clones are the same layer.
#[derive(Debug, Clone)]
pub struct IdempotencyLayer {
    policy: Arc<Policy>,
    tasks: TaskTracker,
}

/// A service with the layer in front.
#[derive(Debug, Clone)]
pub struct Idempotency<S> {
    service: S,
    layer: IdempotencyLayer,
}

impl IdempotencyLayer {
    /// A layer on these connections. It needs a route and a principal as well.
    pub fn builder(connections: impl Into<Connections>, mode: Mode) -> Builder {
        Builder::new(connections.into(), mode)
    }

    pub(super) fn new(policy: Policy) -> Self {
        Self { policy: Arc::new(policy), tasks: TaskTracker::new() }
    }

    /// Waits until every request that was let in is done, also those whose client has gone. Call it when
    /// the server has stopped accepting.
    ///
    /// Cancel safety: yes.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, service: S) -> Idempotency<S> {
        Idempotency { service, layer: self.clone() }
    }
}

impl<S, Q, R> Service<Request<Q>> for Idempotency<S>
where
    S: Service<Request<Q>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    Q: Body + From<Bytes> + Send + 'static,
    Q::Data: Send,
    Q::Error: Into<Box<dyn Error + Send + Sync>>,
    R: Body + Send + 'static,
    R::Data: Send,
    R::Error: Into<Box<dyn Error + Send + Sync>> + Send,
{
    type Response = Response<ReplyBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        // The one that was found ready, and a clone of it for the next call.
        let clone = self.service.clone();
        let mut service = mem::replace(&mut self.service, clone);
        let policy = Arc::clone(&self.layer.policy);
        if !policy.methods.contains(request.method()) {
            let calling = service.call(request);
            return Box::pin(async move { Ok(calling.await?.map(ReplyBody::unread)) });
        }
        let (parts, body) = request.into_parts();
        let route = admit::route(&policy, &parts);
        let span = tracing::info_span!(
            "idempotency",
            route,
            idempotency.key_hash = tracing::field::Empty,
            idempotency.verdict = tracing::field::Empty,
            idempotency.attempt = tracing::field::Empty,
            idempotency.recovery_point = tracing::field::Empty,
        );
        let exchange = Exchange { policy, route };
        let lost = exchange.problem(Problem::HandlerLost);
        // A server drops a call whose client has gone. The task goes on: half of a payment is no state.
        let running = self.layer.tasks.spawn(
            async move { exchange.run(service, Request::from_parts(parts, body)).await }
                .instrument(span),
        );
        Box::pin(async move {
            // The task itself catches what a handler panics.
            running.await.unwrap_or_else(|_| Ok(lost.map(ReplyBody::from)))
        })
    }
}

/// What a key says when its request is not to be done.
pub(super) enum Already {
    /// It is done.
    Done(Answer),
    /// Another attempt is at work, with what is left of its lease, if it has one.
    InProgress(Option<Duration>),
    /// An attempt was lost.
    Unknown,
    /// The key is another request's.
    Mismatch,
}

impl Already {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Done(_) => Verdict::Replay,
            Self::InProgress(_) => Verdict::InProgress,
            Self::Unknown => Verdict::Unknown,
            Self::Mismatch => Verdict::Mismatch,
        }
    }
}

/// One request and its answer.
pub(super) struct Exchange {
    pub(super) policy: Arc<Policy>,
    pub(super) route: String,
}

impl Exchange {
    async fn run<S, Q, R>(
        self,
        mut service: S,
        request: Request<Q>,
    ) -> Result<Response<ReplyBody<R>>, S::Error>
    where
        S: Service<Request<Q>, Response = Response<R>>,
        Q: Body + From<Bytes>,
        Q::Error: Into<Box<dyn Error + Send + Sync>>,
        R: Body,
        R::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let named = match admit::key_and_scope(&self.policy, &self.route, &parts) {
            Ok(named) => named,
            Err(problem) => return Ok(self.refuse(problem)),
        };
        let body = match read(body, self.policy.request_body_bytes_max).await {
            Ok(body) => body,
            Err(problem) => return Ok(self.refuse(problem)),
        };
        let identity = match named {
            None => None,
            Some(named) => match admit::identity(&self.policy, named, &parts, &body).await {
                Ok(identity) => Some(identity),
                Err(problem) => return Ok(self.refuse(problem)),
            },
        };
        if let Some(identity) = &identity {
            tracing::Span::current().record("idempotency.key_hash", identity.key_hash.as_str());
        }
        let request = Request::from_parts(parts, Q::from(body));
        match (&self.policy.mode, &identity) {
            (Mode::Transactional, identity) => {
                transactional::run(&self, identity.as_ref(), service, request).await
            }
            (Mode::Leased { lease, resume_at }, Some(identity)) => {
                leased::run(&self, identity, (*lease, resume_at), service, request).await
            }
            (Mode::Leased { .. }, None) => {
                self.count(Verdict::Unkeyed);
                Ok(service.call(request).await?.map(ReplyBody::unread))
            }
        }
    }

    /// What a key says when the request is not to be done.
    pub(super) fn already<B>(
        &self,
        identity: Option<&Identity>,
        already: Already,
    ) -> Response<ReplyBody<B>> {
        self.count(already.verdict());
        let problem = match already {
            Already::Done(answer) => {
                if let Some(identity) = identity {
                    tracing::info!(
                        route = self.route,
                        key_hash = identity.key_hash,
                        decision = "duplicate",
                        correlation_id = identity.correlation_id,
                        trace_id = identity.trace_id,
                        "duplicate ignored"
                    );
                }
                if let Some(hook) = &self.policy.on_replay {
                    hook(&answer);
                }
                let answer = match replay(answer) {
                    Ok(response) => return response,
                    Err(answer) => answer,
                };
                let problem = Problem::NotRetained(answer.status);
                self.log(problem);
                let mut response = self.problem(problem);
                say_what_is_kept(answer, response.headers_mut());
                return response.map(ReplyBody::from);
            }
            Already::InProgress(Some(left)) => {
                self.log(Problem::InFlight);
                // Rounded up: a client that comes a moment too early comes twice.
                let left = left + Duration::from_millis(999);
                let response = Problem::InFlight.response(&self.policy.documentation, left);
                return response.map(ReplyBody::from);
            }
            Already::InProgress(None) => Problem::InFlight,
            Already::Mismatch => Problem::KeyReused,
            Already::Unknown => Problem::OutcomeUnknown,
        };
        self.log(problem);
        self.problem(problem).map(ReplyBody::from)
    }

    /// Nothing was done, since the database did not do its part.
    pub(super) fn unavailable<B>(&self, error: &KeyError) -> Response<ReplyBody<B>> {
        self.count(Verdict::Unavailable);
        tracing::error!(route = self.route, error = %chain(error), "no request can be protected");
        self.problem(Problem::Unavailable).map(ReplyBody::from)
    }

    /// Nothing was committed: by another transaction's fault, or by the handler's.
    pub(super) fn not_committed(&self, error: &KeyError) -> Problem {
        tracing::error!(route = self.route, error = %chain(error), "a request was rolled back");
        match error {
            KeyError::Conflict { .. } | KeyError::Connection(_) | KeyError::Lost { .. } => {
                Problem::Unavailable
            }
            KeyError::TransactionEnded { .. } => Problem::TransactionEnded,
            KeyError::Refused { .. } => Problem::HandlerFailed,
        }
    }

    /// Refuses a request, and says so to the metrics.
    pub(super) fn refuse<B>(&self, problem: Problem) -> Response<ReplyBody<B>> {
        match problem {
            Problem::KeyMissing => self.count(Verdict::Missing),
            Problem::KeyInvalid(_) => self.count(Verdict::Invalid),
            Problem::PrincipalMissing
            | Problem::BodyTooLarge
            | Problem::BodyIncomplete
            | Problem::BodyTooDeep => self.count(Verdict::Refused),
            // Counted when it began.
            _ => {}
        }
        self.log(problem);
        self.problem(problem).map(ReplyBody::from)
    }

    pub(super) fn log(&self, problem: Problem) {
        tracing::info!(route = self.route, decision = problem.code(), "not done");
    }

    pub(super) fn problem(&self, problem: Problem) -> Response<Bytes> {
        problem.response(&self.policy.documentation, self.policy.retry_after)
    }

    /// A problem as the handler's answer.
    pub(super) fn answer_of(&self, response: &Response<Bytes>) -> Answer {
        Answer {
            status: response.status().as_u16(),
            headers: stored(response.headers(), &self.policy.stored_headers).0,
            body: Some(response.body().to_vec()),
        }
    }

    pub(super) fn count(&self, verdict: Verdict) {
        tracing::Span::current().record("idempotency.verdict", verdict.label());
        metrics::counter!(REQUESTS, "route" => self.route.clone(), "verdict" => verdict.label())
            .increment(1);
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("route", &self.route).finish_non_exhaustive()
    }
}

/// The error and what caused it, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
