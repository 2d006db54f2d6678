//! What holds where the file says nothing, each with the reason for its value.

use std::time::Duration;

use super::{AmqpFence, KafkaFence, KafkaTimestamp, Unrouted};

pub use crate::schema::DEFAULT_SCHEMA;

/// Long enough for a server that is busy or far away, short enough that a dead address is noticed
/// within one back-off.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The relay takes row locks on its own tables and nothing else, so a longer wait means that
/// somebody holds them (a migration, a forgotten transaction) and has to be named.
pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Every statement is bounded in rows and takes milliseconds, but for two that look at everything once
/// (a new target with `start = "now"`, the dead ids that retention counts). What takes this long is
/// stuck, and a new session is the cure.
pub const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Beyond 2,000 rows a read gains nothing: its fixed cost is below 1 % of it.
pub const DEFAULT_BATCH_ROWS_MAX: usize = 2_000;

/// A window in flight and most of another read ahead: the reader is never the one that is waited for,
/// and a slow broker's backlog is not kept in memory. Below 2^13, up to which the queue of what is read
/// ahead doubles: with one row more it would take twice the memory.
pub const DEFAULT_PREFETCH_ROWS_MAX: usize = 8_000;

/// A target that takes one topic of ten is normal, so what it does not take must cost nothing. With
/// `wait` nine rows of ten would be written to `retry`, about 30 µs each, until `retry_rows_max` ends
/// the reading; with `stop` such a target could not run at all. What was settled unsent is recorded,
/// `status` and a metric name every topic that no target takes, and `replay --unrouted` sends it.
pub const DEFAULT_UNROUTED: Unrouted = Unrouted::Settle;

/// Before a read room for its largest rows is taken, 23 kB each: this is for some 700 at a time.
pub const DEFAULT_PREFETCH_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Below RabbitMQ's default limit (16 MiB since 4.0, 128 MiB before). Kafka's is lower: a topic takes
/// 1 MB (`max.message.bytes`, or the broker's `message.max.bytes`), and a longer row is refused and
/// buried as too large until that is raised.
pub const DEFAULT_ROW_BYTES_MAX: usize = 8 * 1024 * 1024;

/// As ranges, some 10 MB of memory and of `hole` rows; beyond it somebody has to end a transaction.
pub const DEFAULT_HOLES_MAX: usize = 100_000;

/// Dead ranges go when the floor passes them; so many mean that retention has stood still.
pub const DEFAULT_DEAD_RANGES_MAX: usize = 100_000;

/// A read of nothing costs 0.1 ms, so a busy relay may ask this often.
pub const DEFAULT_POLL_INTERVAL_MIN: Duration = Duration::from_micros(500);

/// Where the doorbell cannot be armed this is the latency, and 50 reads a second are the price.
pub const DEFAULT_POLL_INTERVAL_MAX: Duration = Duration::from_millis(20);

/// The doorbell is exact; this bounds what a lost notification could cost.
pub const DEFAULT_IDLE_READ_INTERVAL: Duration = Duration::from_secs(1);

/// A week of replay, so that a mistake of Friday can be repaired on Monday.
pub const DEFAULT_KEEP: Duration = Duration::from_secs(7 * 86_400);

/// Ten million rows of 300 bytes are about 5 GB of table.
pub const DEFAULT_KEEP_ROWS_MAX: u64 = 10_000_000;

/// The keeper costs one look at the ledgers when there is nothing to delete.
pub const DEFAULT_RETENTION_INTERVAL: Duration = Duration::from_secs(5);

/// About 50 ms of deleting, so that a round never holds a snapshot for long.
pub const DEFAULT_DELETE_ROWS_MAX: u64 = 10_000;

/// How long a hung leader keeps a standby waiting; shorter, and a pause of the machine costs a
/// take-over.
pub const DEFAULT_LEASE_TTL: Duration = Duration::from_secs(5);

/// A fifth of the lease: two pings may be lost before publishing stops at its half.
pub const DEFAULT_PING_INTERVAL: Duration = Duration::from_secs(1);

/// What a standby waits when a leader is killed: one that ends by itself says so. The try costs
/// 0.1 ms.
pub const DEFAULT_STANDBY_INTERVAL: Duration = Duration::from_millis(250);

/// Relays that start together have all come by then, and a hand-over is a pause of some 0.1 s.
pub const DEFAULT_REBALANCE_INTERVAL: Duration = Duration::from_secs(5);

/// What a person wants to read of a relay that works.
pub const DEFAULT_LOG_LEVEL: &str = "info";

/// Below the 30 s after which Kubernetes kills, and the 90 s of systemd.
pub const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(25);

/// In flight to RabbitMQ: its confirms come in bursts, and from here on more gains nothing. The
/// window also bounds the duplicates after a crash.
pub const DEFAULT_AMQP_WINDOW_MESSAGES_MAX: usize = 5_000;

/// In flight to Kafka: half a million a second where a confirm takes 10 ms. More only waits in librdkafka's
/// queue: 10,000 were never faster, and took a third more memory. The window also bounds the duplicates after
/// a crash.
pub const DEFAULT_KAFKA_WINDOW_MESSAGES_MAX: usize = 5_000;

/// Holds the window of messages at 13 kB each, and eight of the largest rows.
pub const DEFAULT_WINDOW_BYTES_MAX: usize = 64 * 1024 * 1024;

/// With the back-off below, some twenty minutes in which a broker may change its mind.
pub const DEFAULT_ATTEMPTS_MAX: u32 = 10;

/// A nack is most often a queue at its limit: a second gives its consumers a chance.
pub const DEFAULT_RETRY_BACKOFF_MIN: Duration = Duration::from_secs(1);

/// A person who repairs something should not have to wait longer for the effect.
pub const DEFAULT_RETRY_BACKOFF_MAX: Duration = Duration::from_secs(5 * 60);

/// Most losses of a connection are over at once.
pub const DEFAULT_OUTAGE_BACKOFF_MIN: Duration = Duration::from_millis(50);

/// So long at most the relay goes on waiting when the broker is back. A try costs a broker that is
/// there a connection, and one that is away nothing.
pub const DEFAULT_OUTAGE_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Kafka's own limit for a request; a broker that is silent for longer has lost its connection.
pub const DEFAULT_CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// Longer than the election of a partition's leader usually takes.
pub const DEFAULT_STRAGGLER_AFTER: Duration = Duration::from_secs(5);

/// Each is a row in `retry` and a gap in what is in flight; so many are an outage.
pub const DEFAULT_STRAGGLERS_MAX: usize = 10_000;

/// About 1 GB of `retry` rows.
pub const DEFAULT_RETRY_ROWS_MAX: u64 = 10_000_000;

/// Of one wrong route. Each such row may hold a key, whose later rows stand in `retry` behind it: with a
/// hundred behind each they are as many as `retry_rows_max`, where nothing new is read any more.
pub const DEFAULT_WAITING_ROWS_MAX: u64 = 100_000;

/// RabbitMQ ends a silent connection after two to three heartbeats, and only then is the fence of a
/// leader that hangs free: 6 s at most, about as long as its lease lasts. RabbitMQ's documentation
/// calls 5 to 20 s best for most networks; a false alarm costs a connection and identical duplicates.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(2);

/// Costs one queue that nothing is ever routed to.
pub const DEFAULT_AMQP_FENCE: AmqpFence = AmqpFence::ExclusiveQueue;

/// A transaction costs latency, and protects only consumers that read committed messages alone.
pub const DEFAULT_KAFKA_FENCE: KafkaFence = KafkaFence::Off;

/// An outage or a database's clock makes old or early times, which a topic may refuse and a broker's
/// retention deletes first; the time of sending is always a new one. The row's own is in a header.
pub const DEFAULT_KAFKA_TIMESTAMP: KafkaTimestamp = KafkaTimestamp::Sent;

/// A message that no queue is bound for comes back and waits, instead of being confirmed and lost.
pub const DEFAULT_MANDATORY: bool = true;

/// What a topic exchange routes by.
pub const DEFAULT_ROUTING_KEY: &str = "{{ topic }}";

/// Rows of one read are handed over before librdkafka's thread is awake, and go together; under load batches fill by
/// themselves, while five requests are out. And a row that comes alone waits for nobody: whatever is set, the thread
/// polls for whole milliseconds, so that 0.1 ms was 1, a third of the way from commit to consumer.
pub const DEFAULT_LINGER: Duration = Duration::ZERO;

/// Compression is the topic's business (`compression.type=producer` stores what is sent) and costs
/// the relay CPU; small payloads gain little.
pub const DEFAULT_COMPRESSION: &str = "none";

/// Longer than any redelivery, dead letter or replay that goes without a person's planning.
pub const DEFAULT_INBOX_RETENTION: Duration =
    Duration::from_secs(86_400 * outbox_inbox::maintenance::DEFAULT_RETENTION_DAYS as u64);
/// So long may the maintenance be dead before an inbox stops.
pub const DEFAULT_INBOX_AHEAD: Duration =
    Duration::from_secs(86_400 * outbox_inbox::maintenance::DEFAULT_AHEAD_DAYS as u64);
/// Partitions are days; an hour late is early enough.
pub const DEFAULT_INBOX_INTERVAL: Duration = Duration::from_secs(3_600);
/// A handler that runs longer holds one partition up until the next run, and nobody else.
pub const DEFAULT_INBOX_DETACH_TIMEOUT: Duration =
    outbox_inbox::maintenance::DEFAULT_DETACH_TIMEOUT;
