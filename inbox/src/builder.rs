//! An inbox, and what it is set to.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::claim::Texts;
use crate::quota::Quota;
use crate::schema::Schema;

/// Longer than an ordinary handler holds the claim of a message that was delivered twice at once.
pub const DEFAULT_CLAIM_WAIT: Duration = Duration::from_secs(5);
/// A handler is a few statements; one that takes a minute has lost something it waits for, and
/// holds a connection and its claim meanwhile.
pub const DEFAULT_HANDLER_TIMEOUT: Duration = Duration::from_secs(60);
/// With the back-off's defaults a message is given up after a minute of pauses on average, two at
/// most: longer than a restart of what it needs. What lasts longer is for a person, who replays
/// what was parked.
pub const DEFAULT_ATTEMPTS_MAX: u32 = 8;
/// A deadlock or a restart of a neighbour is over by then.
pub const DEFAULT_BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Below RabbitMQ's 30 minutes for a delivery that is not acknowledged, however long the queue of waiting ones.
pub const DEFAULT_BACKOFF_MAX: Duration = Duration::from_secs(300);
/// What is kept of a parked message; larger payloads are left to the broker's dead letters.
pub const DEFAULT_KEEP_BYTES_MAX: usize = 256 * 1024;
/// A person reads the first ones; the counter has them all.
pub const DEFAULT_DUPLICATE_LOGS_PER_SECOND_MAX: u32 = 10;

/// As the table's CHECK has it.
const CONSUMER_BYTES_MAX: usize = 100;

/// What becomes of a message older than the inbox remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStale {
    /// It is parked: a person decides.
    Park,
    /// It is taken for a duplicate. Only where everything that old was surely processed.
    Ignore,
}

/// How an id stands in the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKeys {
    /// As it is.
    Plain,
    /// By a hash: for producers who put people's data into ids.
    Hash,
}

/// One logical handler's inbox: its name, its settings, its SQL. Make it once and share it.
#[derive(Debug, Clone)]
pub struct Inbox {
    pub(crate) consumer: String,
    pub(crate) texts: Texts,
    pub(crate) claim_wait: Duration,
    pub(crate) handler_timeout: Duration,
    pub(crate) attempts_max: u32,
    pub(crate) backoff: Backoff,
    pub(crate) compare: bool,
    pub(crate) on_stale: OnStale,
    pub(crate) keep_bytes_max: Option<usize>,
    pub(crate) log_keys: LogKeys,
    /// Of the records about duplicates; all clones have one.
    pub(crate) quota: Arc<Quota>,
}

/// Why there is no such inbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The name is part of every key, and a label of every metric.
    #[error("a consumer's name has 1 to 100 bytes, {0:?} has {len}", len = .0.len())]
    Consumer(String),
    /// A message is tried at least once.
    #[error("attempts_max is 0")]
    NoAttempt,
    /// The first step of the back-off is the shortest.
    #[error("backoff: {min:?} is longer than {max:?}")]
    Backoff {
        /// The first step.
        min: Duration,
        /// The longest.
        max: Duration,
    },
}

/// An inbox in the making.
#[derive(Debug, Clone)]
pub struct Builder {
    inbox: Inbox,
    schema: Schema,
}

impl Inbox {
    /// The inbox of the logical handler `consumer`. All its instances have this name, and another
    /// handler of the same messages has another.
    #[must_use]
    pub fn builder(consumer: &str) -> Builder {
        let backoff = Backoff { min: DEFAULT_BACKOFF_MIN, max: DEFAULT_BACKOFF_MAX };
        let inbox = Self {
            consumer: consumer.to_owned(),
            texts: Texts::default(),
            claim_wait: DEFAULT_CLAIM_WAIT,
            handler_timeout: DEFAULT_HANDLER_TIMEOUT,
            attempts_max: DEFAULT_ATTEMPTS_MAX,
            backoff,
            compare: true,
            on_stale: OnStale::Park,
            keep_bytes_max: Some(DEFAULT_KEEP_BYTES_MAX),
            log_keys: LogKeys::Plain,
            quota: Arc::new(Quota::new(DEFAULT_DUPLICATE_LOGS_PER_SECOND_MAX)),
        };
        Builder { inbox, schema: Schema::default() }
    }

    /// The name of the logical handler.
    #[must_use]
    pub fn consumer(&self) -> &str {
        &self.consumer
    }
}

impl Builder {
    /// The schema that holds the inbox; default `outbox`.
    #[must_use]
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = schema;
        self
    }

    /// The longest wait for a lock in the handler's transaction, that of the claim included: for a
    /// message that another instance is at. Default [`DEFAULT_CLAIM_WAIT`].
    #[must_use]
    pub fn claim_wait(mut self, wait: Duration) -> Self {
        self.inbox.claim_wait = wait;
        self
    }

    /// The longest that a handler runs; then it is dropped, and the attempt has failed. A statement
    /// of it may take as long (`statement_timeout`, unless the role's own is shorter), so the
    /// rollback waits for no longer than that. Default [`DEFAULT_HANDLER_TIMEOUT`].
    #[must_use]
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.inbox.handler_timeout = timeout;
        self
    }

    /// So many attempts a message has before it is parked. Default [`DEFAULT_ATTEMPTS_MAX`].
    #[must_use]
    pub fn attempts_max(mut self, attempts: u32) -> Self {
        self.inbox.attempts_max = attempts;
        self
    }

    /// The first and the longest step between two attempts; the delay is drawn from nothing to the step.
    /// Default [`DEFAULT_BACKOFF_MIN`] and [`DEFAULT_BACKOFF_MAX`].
    #[must_use]
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.inbox.backoff = Backoff { min, max };
        self
    }

    /// Whether deliveries of one id are compared, and another message under it is a mismatch. Default
    /// yes. Not for producers that write the same event in another form each time.
    #[must_use]
    pub fn compare(mut self, compare: bool) -> Self {
        self.inbox.compare = compare;
        self
    }

    /// What becomes of a message older than the inbox remembers. Default [`OnStale::Park`].
    #[must_use]
    pub fn on_stale(mut self, on_stale: OnStale) -> Self {
        self.inbox.on_stale = on_stale;
        self
    }

    /// How large a payload is kept with a failed message, bytes; `None`: neither payload nor headers,
    /// so that nothing can be replayed from the table. Default [`DEFAULT_KEEP_BYTES_MAX`].
    #[must_use]
    pub fn keep_bytes_max(mut self, bytes: Option<usize>) -> Self {
        self.inbox.keep_bytes_max = bytes;
        self
    }

    /// How ids stand in the logs. Default [`LogKeys::Plain`].
    #[must_use]
    pub fn log_keys(mut self, log_keys: LogKeys) -> Self {
        self.inbox.log_keys = log_keys;
        self
    }

    /// So many records "duplicate ignored" the log gets in a second; how many were left out stands in the
    /// next one (`left_out`). Default [`DEFAULT_DUPLICATE_LOGS_PER_SECOND_MAX`].
    #[must_use]
    pub fn duplicate_logs_per_second_max(mut self, records: u32) -> Self {
        self.inbox.quota = Arc::new(Quota::new(records));
        self
    }

    /// The inbox. Nothing is connected or read.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(self) -> Result<Inbox, BuildError> {
        let Self { mut inbox, schema } = self;
        if !(1..=CONSUMER_BYTES_MAX).contains(&inbox.consumer.len()) {
            return Err(BuildError::Consumer(inbox.consumer));
        }
        if inbox.attempts_max == 0 {
            return Err(BuildError::NoAttempt);
        }
        let Backoff { min, max } = inbox.backoff;
        if min > max {
            return Err(BuildError::Backoff { min, max });
        }
        inbox.texts = Texts::of(&schema, inbox.handler_timeout);
        Ok(inbox)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_not_built() {
        let error = |builder: Builder| builder.build().unwrap_err();
        assert!(matches!(error(Inbox::builder("")), BuildError::Consumer(_)));
        assert!(matches!(error(Inbox::builder(&"x".repeat(101))), BuildError::Consumer(_)));
        assert_eq!(error(Inbox::builder("a").attempts_max(0)), BuildError::NoAttempt);
        let (min, max) = (Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(error(Inbox::builder("a").backoff(min, max)), BuildError::Backoff { min, max });
        assert_eq!(Inbox::builder("billing").build().unwrap().consumer(), "billing");
    }
}
