//! A kept answer, given again.

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, VARY,
};
use http::{Response, StatusCode};

use super::body::ReplyBody;
use crate::idempotency::Answer;

/// The header that tells a repeated answer from a first one: `true`.
pub const IDEMPOTENT_REPLAYED: &str = "idempotent-replayed";

/// They describe a body, and would be false beside another one.
const OF_THE_BODY: [HeaderName; 8] = [
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LOCATION,
    CONTENT_TYPE,
    ETAG,
    LAST_MODIFIED,
    VARY,
];

/// The answer as it was; as it is, if it cannot be given again.
pub(super) fn replay<B>(mut answer: Answer) -> Result<Response<ReplyBody<B>>, Answer> {
    // A status that HTTP does not know was not stored by a handler.
    let Ok(status) = StatusCode::from_u16(answer.status) else { return Err(answer) };
    let Some(body) = answer.body.take() else { return Err(answer) };
    let mut response = Response::new(ReplyBody::from(bytes::Bytes::from(body)));
    *response.status_mut() = status;
    for (name, value) in readable(answer.headers) {
        response.headers_mut().append(name, value);
    }
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// Adds what may be said of an answer without its body: where its result is, above all.
pub(super) fn say_what_is_kept(answer: Answer, headers: &mut HeaderMap) {
    for (name, value) in readable(answer.headers) {
        if !OF_THE_BODY.contains(&name) {
            headers.append(name, value);
        }
    }
}

fn readable(pairs: Vec<(String, String)>) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    pairs.into_iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
}
