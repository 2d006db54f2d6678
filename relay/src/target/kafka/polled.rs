//! A producer with a thread of its own that polls for its callbacks.
//!
//! As rdkafka's `ThreadedProducer`, but that polls for exactly 100 ms: librdkafka takes whole milliseconds,
//! so the last one of each poll is spun away, 1 % of a core for a relay that has nothing to do.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::BaseProducer;

use super::inbox::Inbox;

/// How long the thread may take to see that it shall end. The fraction is over before librdkafka, which
/// waits for the whole milliseconds, is back.
const POLL: Duration = Duration::from_micros(100_050);

/// Shared; dropped by the last owner it ends its threads, within [`POLL`].
#[derive(Clone)]
pub(super) struct PolledProducer(Arc<Polled>);

struct Polled {
    producer: Arc<BaseProducer<Inbox>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PolledProducer {
    /// Makes a producer and its thread; connects to nobody yet.
    ///
    /// # Errors
    /// A property that librdkafka does not take; no thread to be had.
    pub(super) fn create(properties: &ClientConfig, inbox: Inbox) -> KafkaResult<Self> {
        let producer: Arc<BaseProducer<Inbox>> = Arc::new(properties.create_with_context(inbox)?);
        let ends = Arc::new(AtomicBool::new(false));
        let (polled, end) = (Arc::clone(&producer), Arc::clone(&ends));
        let thread = std::thread::Builder::new().name("kafka-callbacks".into()).spawn(move || {
            while !end.load(Ordering::Relaxed) {
                polled.poll(POLL);
            }
        });
        let thread = thread.map_err(|error| {
            KafkaError::ClientCreation(format!("no thread for its callbacks: {error}"))
        })?;
        Ok(Self(Arc::new(Polled { producer, ends, thread: Some(thread) })))
    }
}

impl Deref for PolledProducer {
    type Target = BaseProducer<Inbox>;

    fn deref(&self) -> &Self::Target {
        &self.0.producer
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // A panic there ends nothing of ours.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
