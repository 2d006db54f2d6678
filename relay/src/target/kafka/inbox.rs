//! What librdkafka's thread has told and the pipeline has not read yet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::Notify;

use super::classify::{Verdict, classify, with_hint};
use super::limit::Limits;
use super::refused::Refused;
use crate::config::KafkaTimestamp;
use crate::target::{Event, Refusal, Ticket};

/// The callbacks' side of one producer. Outcomes come a quarter of a million times a second, on
/// librdkafka's thread: they are pushed to a vector, and only the first one wakes the reader.
#[derive(Clone)]
pub(super) struct Inbox(Arc<Shared>);

struct Shared {
    /// Which time a record bears, for the remedy when that is refused.
    timestamp: KafkaTimestamp,
    news: Mutex<News>,
    limits: Limits,
    wake: Notify,
}

/// Everything told since the last look.
#[derive(Default)]
pub(super) struct News {
    /// Outcomes, in the order in which librdkafka told them.
    pub(super) outcomes: Vec<Event>,
    /// Why the producer cannot go on.
    pub(super) broken: Option<String>,
    /// What went wrong with a broker since the last confirm.
    pub(super) trouble: Option<Trouble>,
}

/// An error about the brokers, not about a message.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    /// For people.
    pub(super) reason: String,
    /// What a broker refuses, if waiting will not help.
    pub(super) refused: Option<Refused>,
}

impl Inbox {
    pub(super) fn new(timestamp: KafkaTimestamp) -> Self {
        let (news, limits, wake) = (Mutex::default(), Limits::default(), Notify::new());
        Self(Arc::new(Shared { timestamp, news, limits, wake }))
    }

    /// What was told, to be read and cleared under the lock. Nothing here waits.
    pub(super) fn news(&self) -> MutexGuard<'_, News> {
        self.0.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits of topics that have refused a message.
    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Waits until there may be news.
    ///
    /// Cancel safety: a wake-up that came first is kept.
    pub(super) async fn wait(&self) {
        self.0.wake.notified().await;
    }

    fn outcome(&self, event: Event, confirmed: bool) {
        let mut news = self.news();
        let first = news.outcomes.is_empty();
        news.outcomes.push(event);
        if confirmed {
            news.trouble = None;
        }
        drop(news);
        if first {
            self.0.wake.notify_one();
        }
    }

    fn broken(&self, reason: String) {
        self.news().broken.get_or_insert(reason);
        self.0.wake.notify_one();
    }

    fn refused(&self, ticket: Ticket, error: &KafkaError, message: &BorrowedMessage<'_>) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let reason = || {
            let bytes = message.payload_len();
            match code {
                Code::MessageSizeTooLarge => format!(
                    "topic `{}`: payload of {bytes} bytes: larger than the topic's {}",
                    message.topic(),
                    self.0.limits.describe(message.topic())
                ),
                _ => format!("topic `{}`: {code} (payload of {bytes} bytes)", message.topic()),
            }
        };
        match classify(code) {
            Verdict::Refuse(reaction) => {
                let reason = with_hint(reason(), reaction, self.0.timestamp);
                self.outcome(Event::Refused(ticket, Refusal { reaction, reason }), false);
            }
            // A full queue is no outcome of a delivery: it would be unknown.
            Verdict::Broken | Verdict::Full => self.broken(reason()),
            Verdict::Purged => {}
        }
    }
}

impl ClientContext for Inbox {
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        if code == Code::Fatal {
            return self.broken(format!("the producer failed: {reason}"));
        }
        let refused = Refused::of(code, reason);
        let mut news = self.news();
        // A refused password says more than the lost connection that follows it.
        if refused.is_some() || news.trouble.as_ref().is_none_or(|told| told.refused.is_none()) {
            news.trouble = Some(Trouble { reason: reason.to_owned(), refused });
        }
        drop(news);
        self.0.wake.notify_one();
    }
}

impl ProducerContext for Inbox {
    /// The ticket itself travels through librdkafka: nothing is allocated for a message.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let ticket = ticket as Ticket;
        match result {
            Ok(_) => self.outcome(Event::Confirmed(ticket), true),
            Err((error, message)) => self.refused(ticket, error, message),
        }
    }
}
