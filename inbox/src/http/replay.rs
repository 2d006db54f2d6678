//! A kept answer, given again.

use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::body::ReplyBody;
use super::problem::Problem;
use crate::idempotency::Answer;

/// The header that tells a repeated answer from a first one: `true`.
pub const IDEMPOTENT_REPLAYED: &str = "idempotent-replayed";

/// The answer as it was, or why it cannot be given.
pub(super) fn replay<B>(answer: Answer) -> Result<Response<ReplyBody<B>>, Problem> {
    let Some(body) = answer.body else {
        return Err(Problem::NotRetained);
    };
    // A status that HTTP does not know was not stored by a handler.
    let status = StatusCode::from_u16(answer.status).map_err(|_| Problem::NotRetained)?;
    let mut response = Response::new(ReplyBody::from(bytes::Bytes::from(body)));
    *response.status_mut() = status;
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().append(name, value);
        }
    }
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
