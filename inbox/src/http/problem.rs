//! What a client is told when its request is not done, or not known to be: `application/problem+json`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LINK, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::json;

use super::key::KeyFault;

/// Where a client's author reads on, when the API says nothing of its own.
pub const DEFAULT_DOCUMENTATION: &str =
    "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header";

/// Why there is no answer of the handler's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    /// The route wants a key and there is none.
    KeyMissing,
    /// The header cannot be read.
    KeyInvalid(KeyFault),
    /// The request cannot be attributed to anybody.
    PrincipalMissing,
    /// More than a fingerprint is made of.
    BodyTooLarge,
    /// The body ended early.
    BodyIncomplete,
    /// The body is nested deeper than it is read.
    BodyTooDeep,
    /// The key was used for another request.
    KeyReused,
    /// The first one is still at work.
    InFlight,
    /// The first one was lost, and what it did is not known.
    OutcomeUnknown,
    /// It was done, with this status, and its body was not kept.
    NotRetained(u16),
    /// It was overtaken by another attempt.
    LeaseLost,
    /// Nothing was done: the database is away, or another transaction was in the way.
    Unavailable,
    /// The connection was lost in the COMMIT.
    CommitUnknown,
    /// The handler panicked, or did not keep to its transaction, which was rolled back.
    HandlerFailed,
    /// The handler ended the transaction that was not its own: what it did before is committed, or
    /// is not.
    TransactionEnded,
    /// The handler panicked, and what it did outside the database is not known.
    HandlerLost,
    /// The handler took too long, and was given up.
    HandlerTimeout,
}

impl Problem {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::KeyMissing | Self::KeyInvalid(_) | Self::BodyIncomplete | Self::BodyTooDeep => {
                StatusCode::BAD_REQUEST
            }
            Self::PrincipalMissing => StatusCode::FORBIDDEN,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InFlight | Self::OutcomeUnknown | Self::NotRetained(_) | Self::LeaseLost => {
                StatusCode::CONFLICT
            }
            Self::Unavailable | Self::CommitUnknown | Self::HandlerTimeout => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::HandlerFailed | Self::TransactionEnded | Self::HandlerLost => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// What a program branches on; it never changes.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::KeyMissing => "idempotency_key_missing",
            Self::KeyInvalid(_) => "idempotency_key_invalid",
            Self::PrincipalMissing => "principal_missing",
            Self::BodyTooLarge => "request_too_large",
            Self::BodyIncomplete => "request_incomplete",
            Self::BodyTooDeep => "request_too_deep",
            Self::KeyReused => "idempotency_key_reused",
            Self::InFlight => "request_in_flight",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::NotRetained(_) => "result_not_retained",
            Self::LeaseLost => "lease_lost",
            Self::Unavailable => "temporarily_unavailable",
            Self::CommitUnknown => "commit_unknown",
            Self::HandlerFailed => "handler_failed",
            Self::TransactionEnded => "transaction_ended",
            Self::HandlerLost => "handler_lost",
            Self::HandlerTimeout => "handler_timeout",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::KeyMissing => "Idempotency-Key is missing",
            Self::KeyInvalid(_) => "Idempotency-Key is invalid",
            Self::PrincipalMissing => "The request belongs to nobody",
            Self::BodyTooLarge => "The request is too large",
            Self::BodyIncomplete => "The request ended early",
            Self::BodyTooDeep => "The request is nested too deep",
            Self::KeyReused => "Idempotency-Key is already used",
            Self::InFlight => "A request is outstanding for this Idempotency-Key",
            Self::OutcomeUnknown => "The outcome of the first request is unknown",
            Self::NotRetained(_) => "The result was not retained",
            Self::LeaseLost => "Another attempt has taken over",
            Self::Unavailable => "Temporarily unavailable",
            Self::CommitUnknown => "The outcome is not known yet",
            Self::HandlerFailed | Self::HandlerLost => "The request failed",
            Self::TransactionEnded => "The outcome of the request is unknown",
            Self::HandlerTimeout => "The request took too long",
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Self::KeyMissing => {
                "This operation is idempotent and requires a correct use of the Idempotency-Key header."
            }
            Self::KeyInvalid(fault) => fault.detail(),
            Self::PrincipalMissing => {
                "An idempotency key belongs to whoever sends it, and nobody is authenticated."
            }
            Self::BodyTooLarge | Self::BodyIncomplete => "Nothing was done.",
            Self::BodyTooDeep => {
                "Nothing was done. Arrays and objects may be nested 128 deep at most."
            }
            Self::KeyReused => {
                "This key was used for a request with another content. Use a new key for a new request."
            }
            Self::InFlight => {
                "A request with this key is being processed. Send the same request again later."
            }
            Self::OutcomeUnknown => {
                "The first request with this key was interrupted and is not repeated automatically. Ask for the state of the operation."
            }
            Self::NotRetained(_) => {
                "The request was done, and its result was too large or too sensitive to be kept. It is not done again. A header Location says where its result is."
            }
            Self::LeaseLost => {
                "The request took too long and another attempt goes on with it. Send the same request again later."
            }
            Self::Unavailable => "Nothing was done. Send the same request with the same key again.",
            Self::CommitUnknown => {
                "Send the same request with the same key again: it is answered if it was done, and done if it was not."
            }
            Self::HandlerFailed => {
                "Nothing was done. The same request with the same key is done anew."
            }
            Self::TransactionEnded => {
                "The server ended the transaction of this request by itself, so that what it did before may have been committed, and what it did after may not. It is not done again under this key. Ask for the state of the operation."
            }
            Self::HandlerLost => {
                "The request failed on its way. The same request with the same key goes on where it stopped."
            }
            Self::HandlerTimeout => {
                "The request was given up, and nothing was committed. Send the same request with the same key again: it is done anew, or goes on where it stopped."
            }
        }
    }

    /// Whether sending the same request again later helps.
    fn is_temporary(self) -> bool {
        matches!(
            self,
            Self::InFlight
                | Self::LeaseLost
                | Self::Unavailable
                | Self::CommitUnknown
                | Self::HandlerTimeout
        )
    }

    /// The answer. `type` is the documentation, with the code as the place in it.
    pub(super) fn response(self, documentation: &str, retry_after: Duration) -> Response<Bytes> {
        let kind = format!("{documentation}#{}", self.code());
        let mut body = json!({
            "type": kind,
            "title": self.title(),
            "status": self.status().as_u16(),
            "detail": self.detail(),
            "code": self.code(),
        });
        if let Self::NotRetained(status) = self {
            body["original_status"] = status.into();
        }
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        // The next attempt may be answered otherwise.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(link) = HeaderValue::from_str(&format!("<{kind}>; rel=\"describedby\"")) {
            headers.insert(LINK, link);
        }
        if self.is_temporary() {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/idempotency-http.md");

    #[test]
    fn every_problem_is_on_the_page() {
        for problem in [
            Problem::KeyMissing,
            Problem::KeyInvalid(KeyFault::Empty),
            Problem::PrincipalMissing,
            Problem::BodyTooLarge,
            Problem::BodyIncomplete,
            Problem::BodyTooDeep,
            Problem::KeyReused,
            Problem::InFlight,
            Problem::OutcomeUnknown,
            Problem::NotRetained(201),
            Problem::LeaseLost,
            Problem::Unavailable,
            Problem::CommitUnknown,
            Problem::HandlerFailed,
            Problem::TransactionEnded,
            Problem::HandlerLost,
            Problem::HandlerTimeout,
        ] {
            let line = format!("{} `{}`", problem.status().as_u16(), problem.code());
            // One row of the table has two of one status.
            let also = format!(
                "{} `idempotency_key_missing`, `{}`",
                problem.status().as_u16(),
                problem.code()
            );
            assert!(PAGE.contains(&line) || PAGE.contains(&also), "{line}");
        }
    }

    #[test]
    fn only_what_is_temporary_asks_for_another_attempt() {
        let after = |problem: Problem| {
            let response = problem.response("https://a/b", Duration::from_millis(2500));
            response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(after(Problem::InFlight).as_deref(), Some("2"));
        assert_eq!(after(Problem::OutcomeUnknown), None);
        assert_eq!(after(Problem::KeyReused), None);
    }
}
