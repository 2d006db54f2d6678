//! librdkafka's producer: its properties, and what lives as long as one of it.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig};
use tokio::task::{JoinError, JoinSet};

use super::credential::Credentials;
use super::inbox::{Inbox, Trouble};
use super::polled::PolledProducer;
use super::refused::{Refused, unreachable};
use super::transaction;
use crate::config::KafkaConfig;
use crate::target::ConnectError;
use crate::target::fence::FenceName;

/// A topic that no broker knows is given up after this long, and its messages are parked: they hold
/// the window meanwhile. librdkafka's 30 s are for topics that were created a moment ago.
const TOPIC_PROPAGATION_MAX: Duration = Duration::from_secs(3);

/// The brokers and topics know the limit (`max.message.bytes`); this one only has to be out of
/// their way.
const MESSAGE_BYTES_MAX: usize = 256 << 20;
const MESSAGE_BYTES: &str = "message.max.bytes";

/// librdkafka's queue: the caller's window is the limit (0 = none, and the most that can be set).
const QUEUE_MESSAGES_MAX: usize = 0;
const QUEUE_KIBIBYTES_MAX: usize = i32::MAX as usize;

/// A broker that is back is found again within a second; librdkafka's own limit is ten.
const RECONNECT_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How long one question for a broker takes at most.
const ASK_SLICE: Duration = Duration::from_millis(100);

/// What the operator may change.
const DEFAULTS: [(&str, &str); 4] = [
    ("client.id", "outbox-relay"),
    ("socket.keepalive.enable", "true"),
    // A closed idle connection is normal.
    ("log.connection.close", "false"),
    // The partitioner of the Java clients: the same key goes to the same partition as theirs.
    ("partitioner", "murmur2_random"),
];

/// What the relay's promises rest on.
const FIXED: [(&str, &str); 6] = [
    // Order and no duplicates over retries within one producer.
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("max.in.flight.requests.per.connection", "5"),
    // A message that timed out may be persisted, and those behind it go through: a hole in the
    // key's order. The pipeline watches for missing confirms itself.
    ("message.timeout.ms", "0"),
    // A typing error in a route must not create a topic.
    ("allow.auto.create.topics", "false"),
    ("statistics.interval.ms", "0"),
];

/// An idempotent producer with its own thread for callbacks.
pub(super) struct Producer {
    producer: PolledProducer,
    pub(super) inbox: Inbox,
    credentials: Credentials,
    message_bytes_max: String,
    /// What the brokers call their cluster.
    cluster_id: Option<String>,
}

/// A thread that asks a broker on a producer's behalf.
pub(super) type Connecting = JoinSet<Asked>;

type Asked = Result<PolledProducer, KafkaError>;

impl Producer {
    /// Makes a producer and waits until a broker has answered. `fence` is the name that it can `take`.
    ///
    /// # Errors
    /// See `Target::connect`.
    ///
    /// Cancel safety: nothing was published; what was begun is left in `connecting`, and waited for
    /// by the next call.
    pub(super) async fn open(
        config: &KafkaConfig,
        fence: Option<&FenceName>,
        connecting: &mut Connecting,
    ) -> Result<Self, ConnectError> {
        let mut candidates = Credentials::candidates(config).into_iter().peekable();
        loop {
            let credentials = candidates.next().expect("there is at least one");
            let another = candidates.peek().is_some();
            match Self::open_with(config, fence, connecting, credentials, another).await? {
                Ok(producer) => {
                    producer.credentials.accepted(config);
                    return Ok(producer);
                }
                Err(trouble) if another && is_about_password(trouble.as_ref()) => {}
                Err(trouble) => return Err(unreachable(config, trouble).await),
            }
        }
    }

    /// A try with one password; the trouble, if no broker has answered. `impatient`: not longer
    /// than until the password is refused, since there is another one.
    async fn open_with(
        config: &KafkaConfig,
        fence: Option<&FenceName>,
        connecting: &mut Connecting,
        credentials: Credentials,
        impatient: bool,
    ) -> Result<Result<Self, Option<Trouble>>, ConnectError> {
        let inbox = Inbox::new(config.timestamp);
        let mut properties = properties_with(config, &credentials);
        if let Some(fence) = fence {
            properties.set("transactional.id", fence.as_str());
        }
        let message_bytes_max = properties.get(MESSAGE_BYTES).unwrap_or_default().to_owned();
        let producer = PolledProducer::create(&properties, inbox.clone()).map_err(|error| {
            ConnectError::Configuration {
                reason: describe(&error),
                hint: "check `brokers`, `properties` and the files under `tls` of the target"
                    .into(),
            }
        })?;
        let (timeout, told) = (config.connect_timeout, inbox.clone());
        let ask = move || {
            let refused = || impatient && is_about_password(told.news().trouble.as_ref());
            // The lightest question that only a broker can answer.
            let is_there = |slice| producer.client().fetch_cluster_id(slice).is_some();
            match answered(timeout, is_there, refused) {
                true => Ok(producer),
                false => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut)),
            }
        };
        Ok(match on_thread(connecting, ask).await? {
            Ok(producer) => {
                // It has just been told, so this waits for nothing.
                let cluster_id = producer.client().fetch_cluster_id(Duration::ZERO);
                Ok(Self { producer, inbox, credentials, message_bytes_max, cluster_id })
            }
            Err(_) => Err(inbox.news().trouble.take()),
        })
    }

    /// Takes the fence: every earlier producer under that name is fenced off and its open transaction
    /// aborted, and a transaction has begun.
    ///
    /// # Errors
    /// See `Target::connect`.
    ///
    /// Cancel safety: as `open`.
    pub(super) async fn take(
        self,
        fence: &FenceName,
        config: &KafkaConfig,
        connecting: &mut Connecting,
    ) -> Result<Self, ConnectError> {
        let Self { producer, inbox, credentials, message_bytes_max, cluster_id } = self;
        let timeout = config.connect_timeout;
        let take = move || {
            producer.init_transactions(timeout)?;
            producer.begin_transaction()?;
            Ok(producer)
        };
        match on_thread(connecting, take).await? {
            Ok(producer) => {
                Ok(Self { producer, inbox, credentials, message_bytes_max, cluster_id })
            }
            Err(error) => Err(not_fenced(&error, fence)),
        }
    }

    /// Whether nothing has gone wrong with a broker so far.
    pub(super) fn is_sound(&self) -> bool {
        let news = self.inbox.news();
        news.trouble.is_none() && news.broken.is_none()
    }

    /// Whether a new producer would be no better: its passwords and files are still the same.
    pub(super) fn is_up_to_date(&self, config: &KafkaConfig) -> bool {
        self.credentials.is_current(config)
    }

    /// For a thread that ends transactions.
    pub(super) fn native(&self) -> &PolledProducer {
        &self.producer
    }

    /// Hands a record over; never blocks.
    ///
    /// # Errors
    /// librdkafka's, with the record not taken.
    pub(super) fn send(&self, record: BaseRecord<'_, [u8], [u8], usize>) -> Result<(), KafkaError> {
        self.producer.send(record).map_err(|(error, _)| error)
    }

    /// Why a topic cannot be published to, if it is missing. Blocks for up to `timeout`.
    pub(super) fn missing_topic(&self, topic: &str, timeout: Duration) -> Option<String> {
        let metadata = match self.producer.client().fetch_metadata(Some(topic), timeout) {
            Ok(metadata) => metadata,
            Err(error) => return Some(format!("topic {topic:?}: {}", describe(&error))),
        };
        let error = metadata.topics().iter().find(|found| found.name() == topic)?.error()?;
        Some(format!("topic {topic:?}: {}", RDKafkaErrorCode::from(error)))
    }

    /// The id of the cluster, if its brokers have one.
    pub(super) fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// The client's own limit for a message, bytes.
    pub(super) fn message_bytes_max(&self) -> &str {
        &self.message_bytes_max
    }

    /// Why the producer failed for good.
    pub(super) fn fatal_error(&self) -> Option<String> {
        self.producer.client().fatal_error().map(|(code, reason)| format!("{code}: {reason}"))
    }

    /// Gives up everything queued and in flight. (A request that the kernel already has may still
    /// arrive.)
    pub(super) fn give_up(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight().non_blocking());
    }

    /// Gives up everything and ends.
    ///
    /// Cancel safety: everything is given up before the first await.
    pub(super) async fn close(self) {
        self.give_up();
        let Self { producer, .. } = self;
        // Dropping it joins its threads. A panic there ends nothing of ours.
        let _ = tokio::task::spawn_blocking(move || drop(producer)).await;
    }
}

/// Whether somebody answers within `timeout`. Asked in short slices: librdkafka looks for the answer
/// and then waits for news of it, and news that come between the two wake nobody. Asked once for the
/// whole time, a connection that was there after milliseconds took all of `timeout`.
fn answered(
    timeout: Duration,
    mut ask: impl FnMut(Duration) -> bool,
    mut hopeless: impl FnMut() -> bool,
) -> bool {
    let began = Instant::now();
    loop {
        let left = timeout.saturating_sub(began.elapsed());
        let (slice, asked_at) = (ASK_SLICE.min(left), Instant::now());
        if ask(slice) {
            return true;
        }
        // An early no is final: a broker too old to have a cluster id.
        let is_final = asked_at.elapsed() < slice / 2;
        if is_final || left <= ASK_SLICE || hopeless() {
            return false;
        }
    }
}

fn is_about_password(trouble: Option<&Trouble>) -> bool {
    trouble.is_some_and(|trouble| trouble.refused == Some(Refused::Credentials))
}

/// Asks what blocks, one question at a time: one that was given up may be about to fence off everybody else.
async fn on_thread(
    connecting: &mut Connecting,
    ask: impl FnOnce() -> Asked + Send + 'static,
) -> Result<Asked, ConnectError> {
    while let Some(earlier) = connecting.join_next().await {
        discard(earlier).await;
    }
    connecting.spawn_blocking(ask);
    let asked = connecting.join_next().await.expect("it was just begun");
    asked.map_err(|error| ConnectError::Outage(format!("the connecting thread: {error}")))
}

/// Lets go of a producer that nobody waited for.
async fn discard(asked: Result<Asked, JoinError>) {
    if let Ok(Ok(producer)) = asked {
        let _ = tokio::task::spawn_blocking(move || drop(producer)).await;
    }
}

/// All properties: defaults, the operator's, and last what cannot be changed. With the passwords as
/// they are now.
pub(super) fn properties(config: &KafkaConfig) -> ClientConfig {
    properties_with(config, &Credentials::current(config))
}

fn properties_with(config: &KafkaConfig, credentials: &Credentials) -> ClientConfig {
    let millis = |duration: Duration| duration.as_millis().to_string();
    let mut properties = ClientConfig::new();
    for (name, value) in DEFAULTS {
        properties.set(name, value);
    }
    properties
        .set("topic.metadata.propagation.max.ms", millis(TOPIC_PROPAGATION_MAX))
        .set("reconnect.backoff.max.ms", millis(RECONNECT_BACKOFF_MAX))
        .set("queue.buffering.max.messages", QUEUE_MESSAGES_MAX.to_string())
        .set("queue.buffering.max.kbytes", QUEUE_KIBIBYTES_MAX.to_string())
        .set(MESSAGE_BYTES, MESSAGE_BYTES_MAX.to_string())
        // librdkafka takes fractions of a millisecond.
        .set("linger.ms", (config.linger.as_micros() as f64 / 1e3).to_string())
        .set("compression.type", &config.compression);
    for (name, value) in &config.properties {
        properties.set(name, value);
    }
    credentials.set(config, &mut properties);
    for (name, value) in FIXED {
        properties.set(name, value);
    }
    properties.set("bootstrap.servers", &config.brokers).set_log_level(RDKafkaLogLevel::Warning);
    properties
}

/// Why the `transactional.id` could not be taken.
fn not_fenced(error: &KafkaError, fence: &FenceName) -> ConnectError {
    let reason = format!("transactional id `{fence}`: {}", transaction::describe(error));
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed) => ConnectError::Configuration {
            reason,
            hint: format!(
                "allow the user Write and Describe on transactional ids that begin with `{}`, or \
                 set fence = \"none\"",
                FenceName::PREFIX
            ),
        },
        _ => ConnectError::Outage(reason),
    }
}

/// The error without the value of a property, which may be a secret.
fn describe(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, description, name, _) => format!("`{name}`: {description}"),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_whose_news_was_missed_is_found_in_the_next_slice() {
        // GIVEN an answer that is there, and a first question that slept through its news
        let mut slices = Vec::new();
        let ask = |slice: Duration| {
            slices.push(slice);
            let until = Instant::now() + slice;
            while slices.len() == 1 && Instant::now() < until {
                std::thread::yield_now();
            }
            slices.len() > 1
        };
        // WHEN / THEN it does not take all of the time
        assert!(answered(Duration::from_secs(3_600), ask, || false));
        assert_eq!(slices, [ASK_SLICE; 2]);
        // Neither does a refused password, where there is another one, nor a final no.
        let never = |slice: Duration| {
            let until = Instant::now() + slice;
            while Instant::now() < until {
                std::thread::yield_now();
            }
            false
        };
        assert!(!answered(Duration::from_secs(3_600), never, || true));
        assert!(!answered(Duration::from_secs(3_600), |_| false, || false));
    }

    #[test]
    fn the_operator_cannot_change_what_the_promises_rest_on() {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let config = KafkaConfig {
            brokers: "kafka:9092".into(),
            linger: Duration::from_micros(1500),
            compression: "zstd".into(),
            fence: crate::config::KafkaFence::Off,
            tls: crate::config::TlsConfig::default(),
            timestamp: crate::config::KafkaTimestamp::Sent,
            properties: vec![own("acks", "1"), own("client.id", "mine")],
            secret_properties: vec![("message.timeout.ms".to_owned(), "5".to_owned().into())],
            connect_timeout: Duration::from_secs(5),
        };
        let properties = properties(&config);
        for (name, value) in [
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("message.timeout.ms", "0"),
            ("client.id", "mine"),
            ("linger.ms", "1.5"),
            ("compression.type", "zstd"),
            ("partitioner", "murmur2_random"),
            ("bootstrap.servers", "kafka:9092"),
        ] {
            assert_eq!(properties.get(name), Some(value), "{name}");
        }
        // librdkafka takes all of them.
        assert!(properties.create_native_config().is_ok());
    }
}
