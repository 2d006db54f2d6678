//! What the daemon needs to know, every field already checked: the parsed form of the TOML file.
//!
//! What the file says and what the program needs are different types: `raw` mirrors the file,
//! `Config` is built from it and cannot hold a wrong value.

mod amqp;
mod check;
mod database;
pub mod default;
mod document;
mod duration;
mod error;
mod exposure;
pub(crate) mod file;
mod http;
mod inbox;
mod interpolate;
mod kafka;
mod load;
mod place;
mod property;
mod raw;
mod report;
mod route;
mod secret;
mod section;
mod shape;
mod size;
mod spelling;
mod target;
mod tls;
mod url;
mod variable;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::error::{ConfigError, Problem};
pub use self::exposure::Exposed;
pub use self::place::Place;
use crate::route::RouteConfig;
use crate::secret::Secret;
use crate::tls::Kept;

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from, for messages.
    pub path: PathBuf,
    /// `[database]`
    pub database: DatabaseConfig,
    /// `[source]`
    pub source: SourceConfig,
    /// `[retention]`
    pub retention: RetentionConfig,
    /// `[lease]`
    pub lease: LeaseConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[http]`; `None`: nothing listens.
    pub http: Option<HttpConfig>,
    /// `[shutdown]`
    pub shutdown: ShutdownConfig,
    /// `[target.NAME]`, in the order of their names; at least one.
    pub targets: Vec<TargetConfig>,
    /// `[inbox.NAME]`, in the order of their names.
    pub inboxes: Vec<InboxConfig>,
    /// Files with secrets that every user of this machine can read or change: warnings.
    pub exposed: Vec<Exposed>,
}

/// A consumer's inbox that this process keeps ready and small.
#[derive(Debug, Clone)]
pub struct InboxConfig {
    /// As a target's: for the logs and the gauges.
    pub name: String,
    /// Where the inbox lives; connect as its owner, who alone may make and drop partitions.
    pub database: DatabaseConfig,
    /// So long a processed message is remembered; in whole days.
    pub retention: Duration,
    /// So long may the maintenance be dead before the inbox stops; in whole days.
    pub ahead: Duration,
    /// Pause between two runs.
    pub interval: Duration,
    /// The longest wait for handlers that are in a partition which is to go.
    pub detach_timeout: Duration,
}

/// Where the outbox lives.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `postgres://user@host:port/database`, several hosts possible; it names a user and holds no
    /// password: that stands in `password`. It has no `sslmode` either: `tls` alone decides.
    pub url: String,
    /// From `password`, `password_file`, `${VAR}` or the url itself; never printed. A file is read
    /// at every connection attempt.
    pub password: Option<Secret>,
    /// The PostgreSQL schema that holds the outbox: a name that needs no quotes.
    pub schema: String,
    /// How the connection is protected.
    pub tls: TlsConfig,
    /// A connection that is not there by then counts as an outage.
    pub connect_timeout: Duration,
    /// `lock_timeout` of every session.
    pub lock_timeout: Duration,
    /// `statement_timeout` of every session.
    pub statement_timeout: Duration,
}

/// TLS to a server. With a verifying mode, chain and name are always verified.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// Off only for a server on the same host or a private network.
    pub mode: TlsMode,
    /// PEM file with the CA; the system's roots without it. Files are there and readable at load.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client's certificate; only together with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the client's key, not encrypted.
    pub key_file: Option<PathBuf>,
    /// What these files held when they could last be used: they are read for each connection.
    pub kept: Kept,
}

/// Whether a connection uses TLS. There is no mode that encrypts without verifying.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain text.
    #[default]
    Disable,
    /// TLS, with the server's chain and name verified.
    VerifyFull,
}

/// How rows are read.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Rows in one read.
    pub batch_rows_max: usize,
    /// Rows in memory, read and not yet settled, per target.
    pub prefetch_rows_max: usize,
    /// Bytes of rows in memory, read and not yet settled, per target.
    pub prefetch_bytes_max: usize,
    /// A longer payload is buried without being read.
    pub row_bytes_max: usize,
    /// Open holes (ranges) from which on the reader stops advancing.
    pub holes_max: usize,
    /// Dead ranges from which on retention stops advancing.
    pub dead_ranges_max: usize,
    /// The shortest pause of adaptive polling.
    pub poll_interval_min: Duration,
    /// The longest pause of adaptive polling.
    pub poll_interval_max: Duration,
    /// While the doorbell is armed, a read is made anyway after this long.
    pub idle_read_interval: Duration,
}

/// How long settled rows are kept.
#[derive(Debug, Clone)]
pub struct RetentionConfig {
    /// Age, counted from settling by all targets; zero deletes at once.
    pub keep: Duration,
    /// Settled rows kept at most, whatever their age.
    pub keep_rows_max: u64,
    /// Pause between two rounds of the keeper.
    pub interval: Duration,
    /// Rows deleted in one transaction.
    pub delete_rows_max: u64,
    /// Age at which dead messages are removed; `None`: never.
    pub dead: Option<Duration>,
}

/// The lease of a pipeline, on the database's clock.
#[derive(Debug, Clone)]
pub struct LeaseConfig {
    /// `idle_session_timeout` of the session that holds the lock; publishing stops at half of it.
    pub ttl: Duration,
    /// How often it is pinged when there is nothing to mark.
    pub ping_interval: Duration,
    /// How often a standby tries for the lock.
    pub standby_interval: Duration,
    /// The shortest pause between two pipelines that are handed over.
    pub rebalance_interval: Duration,
}

/// Logs.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Text for people, JSON for programs.
    pub format: LogFormat,
    /// A `tracing` filter: `info`, `outbox_relay=debug,lapin=warn`. `RUST_LOG` is in it already.
    pub level: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line a record, readable.
    Text,
    /// One JSON object a record.
    Json,
}

/// Where the daemon answers probes and Prometheus.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Address and port; port 0 takes a free one, which the log names.
    pub listen: SocketAddr,
    /// Where it was written: whether it can be listened at shows only at the start.
    place: Place,
}

/// How the daemon ends.
#[derive(Debug, Clone)]
pub struct ShutdownConfig {
    /// What is in hand has this long to be confirmed; then it is given up (and sent again later).
    pub grace: Duration,
}

/// One target: a broker and the rules for what goes there.
#[derive(Debug, Clone)]
pub struct TargetConfig {
    /// `[a-z][a-z0-9_]*`, at most 63 bytes; the ledger's key.
    pub name: String,
    /// The broker.
    pub broker: BrokerConfig,
    /// Routes in order; the first that matches takes the row.
    pub routes: Vec<RouteConfig>,
    /// What happens to a row that no route takes.
    pub unrouted: Unrouted,
    /// How many messages of a key may be in flight.
    pub order: Order,
    /// What becomes of a key whose message is buried.
    pub on_poison: OnPoison,
    /// Where a new target begins.
    pub start: Start,
    /// Messages in flight.
    pub window_messages_max: usize,
    /// Bytes in flight.
    pub window_bytes_max: usize,
    /// Refusals of one message before it is `dead`.
    pub attempts_max: u32,
    /// First pause before a refused message is sent again.
    pub retry_backoff_min: Duration,
    /// Longest pause before a refused message is sent again.
    pub retry_backoff_max: Duration,
    /// First pause before a lost broker is tried again.
    pub outage_backoff_min: Duration,
    /// Longest pause before a lost broker is tried again.
    pub outage_backoff_max: Duration,
    /// An unconfirmed message older than this, while the connection stands, counts as an outage.
    pub confirm_timeout: Duration,
    /// In flight and without an outcome this long while later ones were confirmed: a straggler.
    pub straggler_after: Duration,
    /// Stragglers set aside at a time, from which on the target pauses.
    pub stragglers_max: usize,
    /// Rows in `retry` from which on the target reads no more.
    pub retry_rows_max: u64,
    /// Rows that wait for one route, or for any, before further ones are given up.
    pub waiting_rows_max: u64,
}

/// What happens to a row that no route of the target takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrouted {
    /// Settled without being sent, and recorded: `replay --unrouted` sends it later.
    Settle,
    /// It waits in `retry` until the routes change.
    Wait,
    /// The target stops and names the row's topic.
    Stop,
}

impl Unrouted {
    /// As the configuration writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settle => "settle",
            Self::Wait => "wait",
            Self::Stop => "stop",
        }
    }
}

/// How many messages of one ordering key may be unconfirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As many as the window has room for: fast, and what is in flight behind a refused message
    /// passes it.
    Pipelined,
    /// One: nothing ever passes an earlier message of its key.
    Strict,
}

/// What becomes of an ordering key whose message is buried (goes to `dead`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPoison {
    /// Its later messages are sent.
    Skip,
    /// They wait until a person has dealt with the dead one.
    HoldKey,
}

/// Where a target that has no ledger yet begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With every row that is still there.
    Earliest,
    /// After every row that is visible now.
    Now,
}

/// The broker of a target.
#[derive(Debug, Clone)]
pub enum BrokerConfig {
    /// RabbitMQ (AMQP 0-9-1).
    Amqp(AmqpConfig),
    /// Apache Kafka.
    Kafka(KafkaConfig),
}

/// RabbitMQ.
#[derive(Debug, Clone)]
pub struct AmqpConfig {
    /// `amqp://user@host:port/vhost` or `amqps://…`, without a password and without a heartbeat.
    pub url: String,
    /// From `password`, `password_file`, `${VAR}` or the url itself; never printed. A file is read
    /// at every connection attempt.
    pub password: Option<Secret>,
    /// `VerifyFull` if and only if the url is `amqps://…`.
    pub tls: TlsConfig,
    /// The connection's heartbeat, in whole seconds.
    pub heartbeat: Duration,
    /// What keeps a predecessor from publishing.
    pub fence: AmqpFence,
    /// A connection that is not there by then counts as an outage.
    pub connect_timeout: Duration,
}

/// What keeps a predecessor from publishing to RabbitMQ after a take-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmqpFence {
    /// An exclusive queue on the publishing connection: nobody publishes who does not hold it.
    ExclusiveQueue,
    /// Nothing: what a predecessor still sends are duplicates.
    Off,
}

/// What keeps a predecessor from publishing to Kafka after a take-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaFence {
    /// A `transactional.id`, and a transaction a batch: consumers have to read committed ones only.
    Transaction,
    /// Nothing: what a predecessor still sends are duplicates.
    Off,
}

/// The time that a record bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaTimestamp {
    /// That of the row, from the database's clock.
    Created,
    /// That of its sending, from the relay's clock.
    Sent,
}

/// Apache Kafka.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// `linger.ms`.
    pub linger: Duration,
    /// `compression.type`.
    pub compression: String,
    /// What keeps a predecessor from publishing.
    pub fence: KafkaFence,
    /// How the connections are protected. librdkafka has it as `properties`; the relay itself asks
    /// a broker once more when librdkafka does not say what is wrong with a certificate.
    pub tls: TlsConfig,
    /// The time of a record.
    pub timestamp: KafkaTimestamp,
    /// Further librdkafka properties, without those that the relay's promises rest on. Those that
    /// follow from `tls` and `sasl_…` are among them: `security.protocol`, `ssl.*.location`,
    /// `sasl.mechanism`, `sasl.username`.
    pub properties: Vec<(String, String)>,
    /// Properties whose values are secrets (`sasl.password`); never printed.
    pub secret_properties: Vec<(String, Secret)>,
    /// A connection that is not there by then counts as an outage.
    pub connect_timeout: Duration,
}
