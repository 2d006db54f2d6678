//! The names of what the layer measures and logs.

use http::HeaderMap;
use http::header::HeaderName;

/// Requests, by `route` and `verdict`.
pub const REQUESTS: &str = "idempotency_requests_total";

/// Answers that nobody got, since another attempt had taken over, by `route`.
pub const LEASE_LOST: &str = "idempotency_lease_lost_total";

/// Answers that could not be recorded, by `route`: a repetition will not get them.
pub const UNRECORDED: &str = "idempotency_unrecorded_total";

/// Where clients put an id of theirs, in the order in which they are looked for.
const CORRELATION: [HeaderName; 2] =
    [HeaderName::from_static("x-correlation-id"), HeaderName::from_static("x-request-id")];

/// Longer ones are cut: they are the client's, and end in a log.
const CORRELATION_BYTES_MAX: usize = 128;

/// What became of a request, as a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Started,
    Resumed,
    Replay,
    InProgress,
    Unknown,
    Mismatch,
    Missing,
    Invalid,
    Unkeyed,
    Refused,
    Unavailable,
}

impl Verdict {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 11] = [
        Self::Started,
        Self::Resumed,
        Self::Replay,
        Self::InProgress,
        Self::Unknown,
        Self::Mismatch,
        Self::Missing,
        Self::Invalid,
        Self::Unkeyed,
        Self::Refused,
        Self::Unavailable,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Resumed => "resumed",
            Self::Replay => "replay",
            Self::InProgress => "in_progress",
            Self::Unknown => "unknown",
            Self::Mismatch => "mismatch",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Unkeyed => "unkeyed",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The client's id of what it does, if it sent one.
pub(super) fn correlation_id(headers: &HeaderMap) -> &str {
    let sent =
        CORRELATION.iter().find_map(|name| headers.get(name)?.to_str().ok()).unwrap_or_default();
    // to_str lets only ASCII through, so every index is a boundary.
    &sent[..sent.len().min(CORRELATION_BYTES_MAX)]
}

/// The trace id of a W3C `traceparent`.
pub(super) fn trace_id(headers: &HeaderMap) -> &str {
    let parent =
        headers.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let id = parent.split('-').nth(1).unwrap_or_default();
    if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) { id } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_and_bounded() {
        let mut headers = HeaderMap::new();
        assert_eq!((correlation_id(&headers), trace_id(&headers)), ("", ""));
        headers.insert("x-request-id", "r".repeat(200).parse().unwrap());
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert("traceparent", parent.parse().unwrap());
        assert_eq!(correlation_id(&headers), "r".repeat(128));
        assert_eq!(trace_id(&headers), "0af7651916cd43dd8448eb211c80319c");
        headers.insert("x-correlation-id", "c".parse().unwrap());
        headers.insert("traceparent", "00-nonsense-01".parse().unwrap());
        assert_eq!((correlation_id(&headers), trace_id(&headers)), ("c", ""));
    }
}
