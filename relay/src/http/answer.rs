//! Which requests there are, and the form of an answer.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Live,
    Ready,
    Metrics,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: StatusCode,
    content_type: HeaderValue,
    body: String,
}

/// What a request asks for, or the answer that refuses it.
pub(super) fn place(method: &Method, path: &str) -> Result<Place, Answer> {
    let place = match path {
        "/live" => Place::Live,
        "/ready" => Place::Ready,
        "/metrics" => Place::Metrics,
        _ => return Err(Answer::text(404, "there are /live, /ready and /metrics\n")),
    };
    match *method {
        Method::GET | Method::HEAD => Ok(place),
        _ => Err(Answer::text(405, "GET or HEAD\n")),
    }
}

impl Answer {
    pub(super) fn text(status: u16, body: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).expect("it is one of those above");
        Self { status, content_type: TEXT, body: body.into() }
    }

    pub(super) fn metrics(body: String) -> Self {
        Self { status: StatusCode::OK, content_type: METRICS, body }
    }
}

impl From<Answer> for Response<Full<Bytes>> {
    fn from(answer: Answer) -> Self {
        let mut response = Self::new(Full::from(answer.body));
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, answer.content_type);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if answer.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_places_can_be_read_and_nothing_can_be_written() {
        assert_eq!(place(&Method::GET, "/ready"), Ok(Place::Ready));
        assert_eq!(place(&Method::HEAD, "/metrics"), Ok(Place::Metrics));
        let refused = |method, path| place(&method, path).map_err(|answer| answer.status);
        assert_eq!(refused(Method::GET, "/"), Err(StatusCode::NOT_FOUND));
        assert_eq!(refused(Method::GET, "/ready/"), Err(StatusCode::NOT_FOUND));
        assert_eq!(refused(Method::POST, "/live"), Err(StatusCode::METHOD_NOT_ALLOWED));
    }
}
