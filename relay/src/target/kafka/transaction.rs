//! `fence = "transaction"`: a transaction a batch, so that Kafka itself fences a predecessor off.
//!
//! A transaction holds what has gathered while the one before it was committed: under load many
//! messages, alone a single one. A message is confirmed by the commit, never by its delivery report.
//! A refused message spoils its transaction; then the others are sent again in the next one, and
//! consumers that read committed messages see nothing of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;
use tokio::task::JoinSet;

use super::polled::PolledProducer;
use crate::target::{Event, Submission};

/// Ending a transaction is asked for in pieces of this length, so that a connection that was given
/// up meanwhile is let go of soon, long before a lease runs out.
const PATIENCE: Duration = Duration::from_millis(500);

/// The transaction at hand.
#[derive(Default)]
pub(super) struct Transaction {
    /// Handed to librdkafka in it, in order.
    sent: Vec<Submission>,
    /// What librdkafka said of them: confirmed only once the transaction is.
    reports: Vec<Event>,
    /// Commits, or aborts, and begins the next; one at a time, and nothing is sent meanwhile.
    ending: JoinSet<Ended>,
    /// The last one was aborted, and nothing was refused.
    spoiled: bool,
    given_up: GivenUp,
}

/// Tells the ending thread that nobody waits for it any more.
#[derive(Default)]
struct GivenUp(Arc<AtomicBool>);

/// How a transaction ended. After the first two the next one has begun.
pub(super) enum Ended {
    Committed,
    Aborted(String),
    /// The producer cannot go on.
    Failed(String),
}

/// What the end of a transaction means for its messages.
pub(super) enum Outcome {
    /// These are the answers; the others go first into the next transaction, in this order.
    Answered(Vec<Event>, Vec<Submission>),
    /// Nothing is known; these were refused all the same.
    Broken(String, Vec<Event>),
}

impl Transaction {
    /// Whether a message can be sent in it.
    pub(super) fn is_open(&self) -> bool {
        self.ending.is_empty()
    }

    /// Whether it holds a message.
    pub(super) fn is_pending(&self) -> bool {
        !self.sent.is_empty()
    }

    /// A message was handed to librdkafka.
    pub(super) fn sent(&mut self, submission: Submission) {
        self.sent.push(submission);
    }

    /// Keeps what librdkafka reported.
    pub(super) fn reported(&mut self, reports: &mut Vec<Event>) {
        self.reports.append(reports);
    }

    /// Begins to commit, if there is something and nothing is being committed.
    pub(super) fn commit(&mut self, producer: &PolledProducer) {
        if self.is_open() && self.is_pending() {
            let (producer, given_up) = (producer.clone(), Arc::clone(&self.given_up.0));
            self.ending.spawn_blocking(move || end(&producer, &given_up));
        }
    }

    /// Waits for the end of the transaction; for ever if none is ending.
    ///
    /// Cancel safety: the end is either still to come or returned.
    pub(super) async fn ended(&mut self) -> Ended {
        match self.ending.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(error)) => Ended::Failed(format!("the committing thread: {error}")),
            None => std::future::pending().await,
        }
    }

    /// What the end means. All reports have come by then: librdkafka ends nothing before.
    pub(super) fn settle(&mut self, ended: Ended) -> Outcome {
        let (sent, mut reports) =
            (std::mem::take(&mut self.sent), std::mem::take(&mut self.reports));
        match ended {
            Ended::Committed if reports.len() == sent.len() => {
                self.spoiled = false;
                Outcome::Answered(reports, Vec::new())
            }
            Ended::Committed => {
                Outcome::Broken("a commit without the reports of its messages".into(), Vec::new())
            }
            Ended::Aborted(reason) => {
                reports.retain(|report| matches!(report, Event::Refused(..)));
                // Once: the sequence numbers of a refused message are missing at the broker, which
                // spoils the next transaction as well.
                if reports.is_empty() && std::mem::replace(&mut self.spoiled, true) {
                    return Outcome::Broken(reason, reports);
                }
                let innocent = |submission: &Submission| {
                    !reports.iter().any(|report| matches!(report, Event::Refused(ticket, _) if *ticket == submission.ticket))
                };
                let again = sent.into_iter().filter(innocent).collect();
                Outcome::Answered(reports, again)
            }
            Ended::Failed(reason) => {
                reports.retain(|report| matches!(report, Event::Refused(..)));
                Outcome::Broken(reason, reports)
            }
        }
    }

    /// Waits until no thread ends a transaction any more, which is soon.
    pub(super) async fn close(mut self) {
        self.given_up.0.store(true, Ordering::Relaxed);
        while self.ending.join_next().await.is_some() {}
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Commits, or aborts what cannot be committed, and begins the next transaction. Blocks.
fn end(producer: &PolledProducer, given_up: &AtomicBool) -> Ended {
    let committed = persist(given_up, || producer.commit_transaction(PATIENCE));
    let ended = match committed {
        Ok(()) => Ended::Committed,
        Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
            match persist(given_up, || producer.abort_transaction(PATIENCE)) {
                Ok(()) => Ended::Aborted(error.string()),
                Err(error) => return Ended::Failed(describe(&error)),
            }
        }
        Err(error) => return Ended::Failed(describe(&error)),
    };
    match producer.begin_transaction() {
        Ok(()) => ended,
        // What was committed is committed all the same; the next message will break the session.
        Err(_) if matches!(ended, Ended::Committed) => ended,
        Err(error) => Ended::Failed(describe(&error)),
    }
}

/// Asks again as long as librdkafka says that it only takes longer.
fn persist(
    given_up: &AtomicBool,
    mut ask: impl FnMut() -> Result<(), KafkaError>,
) -> Result<(), KafkaError> {
    loop {
        let error = match ask() {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let again = match &error {
            KafkaError::Transaction(error) => error.is_retriable(),
            KafkaError::Flush(code) => *code == Code::OperationTimedOut,
            _ => false,
        };
        if !again || given_up.load(Ordering::Relaxed) {
            return Err(error);
        }
    }
}

/// For people; a fenced producer is told what happened to it.
pub(super) fn describe(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => {
            format!("fenced: another producer has the transactional id ({error})")
        }
        _ => error.to_string(),
    }
}
