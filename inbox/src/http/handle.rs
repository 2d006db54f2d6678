//! Calls the handler, and reads what it answers.

use std::error::Error;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use http::{Request, Response, response};
use http_body::Body;
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
}

/// A handler's answer: to be given, and to be kept.
pub(super) struct Answered<B> {
    pub(super) response: Response<ReplyBody<B>>,
    pub(super) answer: Answer,
    /// What the handler said about it.
    pub(super) keep: Option<Keep>,
}

/// A panic is an answer as well: the layer has a transaction to roll back, or a lease to end.
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
    // call() itself may panic, and not only its future.
    let calling = async { service.call(request).await };
    let (parts, body) = match AssertUnwindSafe(calling).catch_unwind().await {
        Ok(Ok(response)) => response.into_parts(),
        Ok(Err(error)) => return Handled::Failed(error),
        Err(_) => return Handled::Broken,
    };
    let reading = capture(body, policy.response_body_bytes_max);
    match AssertUnwindSafe(reading).catch_unwind().await {
        Ok(Capture::Whole(bytes)) => {
            let kept = parts.extensions.get::<Unretained>().is_none().then(|| bytes.to_vec());
            Handled::Answered(answered(policy, parts, bytes.into(), kept).into())
        }
        Ok(Capture::Beyond(body)) => Handled::Answered(answered(policy, parts, body, None).into()),
        Ok(Capture::Broken) | Err(_) => Handled::Broken,
    }
}

fn answered<B>(
    policy: &Policy,
    parts: response::Parts,
    body: ReplyBody<B>,
    kept: Option<Vec<u8>>,
) -> Answered<B> {
    Answered {
        keep: parts.extensions.get::<Keep>().copied(),
        answer: Answer {
            status: parts.status.as_u16(),
            headers: stored(&parts.headers, &policy.stored_headers),
            body: kept,
        },
        response: Response::from_parts(parts, body),
    }
}
