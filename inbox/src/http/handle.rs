//! Calls the handler, and reads what it answers.

use std::error::Error;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use http::header::CONTENT_TYPE;
use http::{Request, Response, response};
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use super::body::{Capture, ReplyBody, capture};
use super::policy::Policy;
use super::retain::{Keep, Unretained, stored};
use crate::idempotency::Answer;

/// What came of the call.
pub(super) enum Handled<B, E> {
    /// It answered.
    Answered(Box<Answered<B>>),
    /// It returned an error, which is the server's to answer.
    Failed(E),
    /// It panicked, or its body broke off.
    Broken,
    /// It did not end in time, and was dropped.
    TimedOut,
}

/// A handler's answer: to be given, and to be kept.
pub(super) struct Answered<B> {
    pub(super) response: Response<ReplyBody<B>>,
    pub(super) answer: Answer,
    /// What the handler said about it.
    pub(super) keep: Option<Keep>,
}

/// Its content type says that it has no end.
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// A panic is an answer as well: the layer has a transaction to roll back, or a lease to end. So is
/// silence.
pub(super) async fn handle<S, Q, R>(
    policy: &Policy,
    mut service: S,
    request: Request<Q>,
) -> Handled<R, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>>,
    R: Body,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let deadline = Instant::now() + policy.handler_timeout;
    // call() itself may panic, and not only its future.
    let calling = async { service.call(request).await };
    let (parts, body) = match timeout_at(deadline, AssertUnwindSafe(calling).catch_unwind()).await {
        Err(_) => return Handled::TimedOut,
        Ok(Ok(Ok(response))) => response.into_parts(),
        Ok(Ok(Err(error))) => return Handled::Failed(error),
        Ok(Err(_)) => return Handled::Broken,
    };
    if parts.headers.get(CONTENT_TYPE).is_some_and(|kind| is_endless(kind.as_bytes())) {
        return Handled::Answered(answered(policy, parts, ReplyBody::unread(body), None).into());
    }
    let reading = capture(body, policy.response_body_bytes_max);
    match timeout_at(deadline, AssertUnwindSafe(reading).catch_unwind()).await {
        Err(_) => Handled::TimedOut,
        Ok(Ok(Capture::Whole(bytes))) => {
            let kept = parts.extensions.get::<Unretained>().is_none().then(|| bytes.to_vec());
            Handled::Answered(answered(policy, parts, bytes.into(), kept).into())
        }
        Ok(Ok(Capture::Beyond(body))) => {
            Handled::Answered(answered(policy, parts, body, None).into())
        }
        Ok(Ok(Capture::Broken) | Err(_)) => Handled::Broken,
    }
}

fn is_endless(content_type: &[u8]) -> bool {
    let kind = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(EVENT_STREAM)
}

fn answered<B>(
    policy: &Policy,
    parts: response::Parts,
    body: ReplyBody<B>,
    kept: Option<Vec<u8>>,
) -> Answered<B> {
    let (headers, whole) = stored(&parts.headers, &policy.stored_headers);
    Answered {
        keep: parts.extensions.get::<Keep>().copied(),
        answer: Answer { status: parts.status.as_u16(), headers, body: kept.filter(|_| whole) },
        response: Response::from_parts(parts, body),
    }
}
