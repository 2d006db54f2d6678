//! The consumers: they note when a row's message came, and do nothing else.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use rdkafka::message::{BorrowedMessage, Message as _, Timestamp};
use tokio::task::JoinSet;

use super::journal::Journal;
use super::writer::DIGITS;
use crate::census::read_from_the_beginning;
use crate::meter::Meter;
use crate::queue::{Queue, connect, short};
use crate::support::consumer::{KafkaDestination, now_us};

/// Deliveries with one acknowledgement.
const ACK_ROWS_MAX: usize = 256;
/// Between two looks at the flag that ends a thread.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// Between two looks at the counter, and how long it may stand still.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const STALL_MAX: Duration = Duration::from_secs(60);

/// A consumer that runs until it is dropped.
pub(crate) struct Reader {
    seen: Arc<Seen>,
    /// Owns the reading task.
    _task: JoinSet<()>,
}

struct Seen {
    journal: Mutex<Arc<Journal>>,
    count: AtomicUsize,
    ended: AtomicBool,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.seen.ended.store(true, Ordering::Relaxed);
    }
}

impl Reader {
    /// Reads from now on.
    pub(crate) async fn start(meter: &Meter, journal: Arc<Journal>) -> Self {
        let seen = Seen {
            journal: Mutex::new(journal),
            count: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        };
        let seen = Arc::new(seen);
        let mut task = JoinSet::new();
        match meter {
            Meter::Kafka { topic, .. } => {
                let (topic, seen) = (topic.clone(), seen.clone());
                // A thread of its own, as a Kafka consumer has: no scheduler of ours in between.
                task.spawn_blocking(move || read_kafka(&topic, &seen));
            }
            Meter::Amqp { queue, .. } => {
                let (connection, channel, deliveries) = subscribe(queue).await;
                task.spawn(read_amqp(connection, channel, deliveries, seen.clone()));
            }
        }
        Self { seen, _task: task }
    }

    /// What comes from now on is noted in another journal.
    pub(crate) fn go_on(&mut self, journal: Arc<Journal>) {
        self.seen.count.store(0, Ordering::Relaxed);
        *self.seen.journal.lock().expect("nobody panics while noting") = journal;
    }

    /// Waits until every row has come.
    ///
    /// # Panics
    /// When nothing comes any more.
    pub(crate) async fn wait_all(&self, journal: &Journal) {
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            let count = self.seen.count.load(Ordering::Relaxed);
            if count >= journal.len() {
                return;
            }
            if count != last {
                (last, moved) = (count, Instant::now());
            }
            assert!(moved.elapsed() < STALL_MAX, "{count} of {} rows came", journal.len());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

impl Seen {
    /// The first delivery counts.
    fn note(&self, payload: &[u8], logged: Option<i64>) {
        let at = now_us();
        let digits = payload.get(..DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
        let number: usize =
            digits.and_then(|digits| digits.parse().ok()).expect("payloads begin with a number");
        let journal = self.journal.lock().expect("nobody panics while noting").clone();
        let slot = journal.slot(number);
        let first = slot.consumed.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            slot.logged.store(logged.unwrap_or(0), Ordering::Relaxed);
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn read_kafka(topic: &KafkaDestination, seen: &Seen) {
    let consumer = read_from_the_beginning(topic);
    while !seen.ended.load(Ordering::Relaxed) {
        // An error is an event about the connection: it comes back, and so do we.
        if let Some(Ok(message)) = consumer.poll(POLL_TIMEOUT) {
            seen.note(message.payload().unwrap_or_default(), logged(&message));
        }
    }
}

fn logged(message: &BorrowedMessage<'_>) -> Option<i64> {
    match message.timestamp() {
        Timestamp::LogAppendTime(ms) => Some(ms * 1000 + 500),
        _ => None,
    }
}

async fn subscribe(queue: &Queue) -> (lapin::Connection, lapin::Channel, lapin::Consumer) {
    let connection = connect(&queue.url).await;
    let subscribed = async {
        let channel = connection.create_channel().await?;
        channel.basic_qos(4096, BasicQosOptions::default()).await?;
        let (name, options) = (short(&queue.name), BasicConsumeOptions::default());
        let deliveries =
            channel.basic_consume(name, short(""), options, FieldTable::default()).await?;
        Ok::<_, lapin::Error>((channel, deliveries))
    };
    let (channel, deliveries) = subscribed.await.expect("RabbitMQ lets a queue be read");
    (connection, channel, deliveries)
}

/// The connection lives as long as its consumer.
async fn read_amqp(
    _connection: lapin::Connection,
    channel: lapin::Channel,
    deliveries: lapin::Consumer,
    seen: Arc<Seen>,
) {
    let mut deliveries = deliveries.ready_chunks(ACK_ROWS_MAX);
    while let Some(chunk) = deliveries.next().await {
        let mut last = None;
        for delivery in chunk {
            let delivery = delivery.expect("RabbitMQ stays");
            last = Some(delivery.delivery_tag);
            seen.note(&delivery.data, None);
        }
        if let Some(last) = last {
            let acked = channel.basic_ack(last, BasicAckOptions { multiple: true }).await;
            acked.expect("RabbitMQ stays");
        }
    }
}
