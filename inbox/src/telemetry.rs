//! What the outside sees: names of metrics, the log's records, the spans.

use std::time::Duration;

use tracing::{Span, debug, info, info_span, warn};

use crate::builder::{Inbox, LogKeys};
use crate::cause::Cause;
use crate::claim::Claim;
use crate::handler::{Failure, HandlerError};
use crate::message::Message;
use crate::outcome::Park;
use crate::verdict::Verdict;

#[cfg(all(test, feature = "http"))]
mod rules;

/// The names of the metrics. They go through the `metrics` facade, to whatever recorder the application has.
pub mod metric {
    /// Counter; `consumer`, `verdict` (`fresh` counts commits; `passthrough` is [`Inbox::passthrough`]'s), `cause`.
    ///
    /// [`Inbox::passthrough`]: crate::Inbox::passthrough
    pub const CLAIMS: &str = "inbox_claims_total";
    /// Counter; `consumer`, `reason`: attempts that failed, and deliveries that went back.
    pub const RETRIES: &str = "inbox_retries_total";
    /// Counter; `consumer`, `class`.
    pub const PARKED: &str = "inbox_parked_total";
    /// Counter; `consumer`, `constraint`: a unique key of the application refused an effect whose
    /// message the inbox had not seen. It must stay 0.
    pub const DUPLICATE_EFFECTS: &str = "inbox_duplicate_effects_total";
    /// Histogram, seconds; `consumer`.
    pub const CLAIM_DURATION: &str = "inbox_claim_duration_seconds";
    /// Histogram, seconds; `consumer`, `outcome` (`ok`, or the class of the failure).
    pub const HANDLER_DURATION: &str = "inbox_handler_duration_seconds";
    /// Histogram; `consumer`: which attempt succeeded.
    pub const ATTEMPTS: &str = "inbox_delivery_attempts";
}

/// The span around a claim.
pub(crate) fn claim_span() -> Span {
    info_span!(
        "inbox.claim",
        inbox.verdict = tracing::field::Empty,
        inbox.attempt = tracing::field::Empty
    )
}

/// The span around a handler.
pub(crate) fn handler_span(attempt: u32) -> Span {
    info_span!("inbox.handler", inbox.attempt = attempt)
}

impl Inbox {
    /// The span around everything of one message.
    pub(crate) fn span(&self, message: &Message<'_>) -> Span {
        let (id, key_hash) = self.logged(message);
        let destination = message.destination();
        info_span!(
            "process",
            otel.name = format!("process {destination}"),
            otel.kind = "consumer",
            messaging.operation.r#type = "process",
            messaging.destination.name = destination,
            messaging.consumer.group.name = self.consumer,
            messaging.message.id = id,
            messaging.message.conversation_id = message.correlation_id(),
            inbox.key_hash = key_hash,
            inbox.cause = message.cause().as_str(),
            inbox.verdict = tracing::field::Empty,
            inbox.attempt = tracing::field::Empty,
        )
    }

    /// What a claim said, on its own span and on the message's, which is the current one.
    pub(crate) fn found(&self, span: &Span, claim: &Claim) {
        for span in [span, &Span::current()] {
            span.record("inbox.verdict", claim.verdict.as_str());
            if claim.verdict == Verdict::Fresh {
                span.record("inbox.attempt", claim.attempt);
            }
        }
    }

    pub(crate) fn claimed(&self, took: Duration) {
        metrics::histogram!(metric::CLAIM_DURATION, "consumer" => self.consumer.clone())
            .record(took.as_secs_f64());
    }

    pub(crate) fn handled(&self, took: Duration, failure: Option<&HandlerError>) {
        let outcome = failure.map_or("ok", |error| error.failure.class());
        metrics::histogram!(
            metric::HANDLER_DURATION, "consumer" => self.consumer.clone(), "outcome" => outcome
        )
        .record(took.as_secs_f64());
    }

    pub(crate) fn done(&self, message: &Message<'_>, attempt: u32) {
        let cause = match message.cause() {
            Cause::Unknown => "first",
            cause => cause.as_str(),
        };
        self.count_claim("fresh", cause);
        metrics::histogram!(metric::ATTEMPTS, "consumer" => self.consumer.clone())
            .record(f64::from(attempt));
        let (message_id, key_hash) = self.logged(message);
        debug!(
            consumer = self.consumer,
            message_id,
            key_hash,
            decision = "first_seen",
            attempt,
            correlation_id = message.correlation_id(),
            trace_id = message.trace_id(),
            "message processed"
        );
    }

    /// The one record that tells a person why a message had no effect. A flood of them is cut short; the
    /// counter is exact.
    pub(crate) fn duplicate_ignored(&self, message: &Message<'_>, decision: &'static str) {
        let cause = message.cause().as_str();
        self.count_claim(decision, cause);
        let Some(left_out) = self.quota.admit() else { return };
        let (message_id, key_hash) = self.logged(message);
        info!(
            consumer = self.consumer,
            message_id,
            key_hash,
            decision,
            cause,
            correlation_id = message.correlation_id(),
            trace_id = message.trace_id(),
            left_out = (left_out > 0).then_some(left_out),
            "duplicate ignored"
        );
    }

    /// A message that nothing is claimed for.
    pub(crate) fn passed(&self, message: &Message<'_>) {
        self.count_claim("passthrough", message.cause().as_str());
    }

    pub(crate) fn retried(&self, message: &Message<'_>, failure: &HandlerError, attempt: u32) {
        let reason = failure.failure.class();
        self.count_retry(reason);
        let (message_id, key_hash) = self.logged(message);
        warn!(
            consumer = self.consumer,
            message_id,
            key_hash,
            decision = "retry",
            reason,
            attempt,
            error = failure.chain(),
            correlation_id = message.correlation_id(),
            trace_id = message.trace_id(),
            "attempt failed"
        );
    }

    /// With `verdict` if a claim said so, which is then counted.
    pub(crate) fn parked(
        &self,
        message: &Message<'_>,
        why: Park,
        attempts: u32,
        failure: Option<&HandlerError>,
    ) {
        let class = why.as_str();
        if matches!(why, Park::Mismatch | Park::Stale) {
            self.count_claim(class, message.cause().as_str());
        }
        metrics::counter!(
            metric::PARKED, "consumer" => self.consumer.clone(), "class" => class
        )
        .increment(1);
        if let Some(Failure::Exists { constraint }) = failure.map(|f| &f.failure) {
            metrics::counter!(
                metric::DUPLICATE_EFFECTS,
                "consumer" => self.consumer.clone(), "constraint" => constraint.clone()
            )
            .increment(1);
        }
        let (message_id, key_hash) = self.logged(message);
        warn!(
            consumer = self.consumer,
            message_id,
            key_hash,
            decision = "parked",
            reason = class,
            attempts,
            cause = message.cause().as_str(),
            error = failure.map(HandlerError::chain),
            correlation_id = message.correlation_id(),
            trace_id = message.trace_id(),
            "message parked"
        );
    }

    pub(crate) fn count_retry(&self, reason: &'static str) {
        metrics::counter!(
            metric::RETRIES, "consumer" => self.consumer.clone(), "reason" => reason
        )
        .increment(1);
    }

    fn count_claim(&self, verdict: &'static str, cause: &'static str) {
        metrics::counter!(
            metric::CLAIMS,
            "consumer" => self.consumer.clone(), "verdict" => verdict, "cause" => cause
        )
        .increment(1);
    }

    /// `message_id` and `key_hash`, of which one is there.
    fn logged(&self, message: &Message<'_>) -> (Option<String>, Option<String>) {
        let Some(id) = message.id() else { return (None, None) };
        match self.log_keys {
            LogKeys::Plain => (Some(id.to_string()), None),
            LogKeys::Hash => (None, Some(id.hash())),
        }
    }
}
