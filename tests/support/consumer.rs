//! Independent consumers: they know nothing of the relay, only its wire format.
//!
//! A consumer reads from the beginning, survives restarts of its broker, and records every delivery
//! once: what the broker hands out again because *this consumer's* acknowledgement was lost is not
//! the relay's duplicate.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::checker::Delivery;
use super::content::Content;
use super::patience::wait_for;

mod amqp;
mod kafka;

pub(crate) use amqp::{AmqpDestination, QueueKind};
pub(crate) use kafka::KafkaDestination;

/// A consumer that has not come to the end by then is replaced.
const STALLED_AFTER: Duration = Duration::from_secs(15);

/// One consumer of one queue or topic.
pub(crate) struct Consumer {
    inbox: Arc<Inbox>,
    destination: Destination,
    /// Owns the reading task.
    task: Mutex<JoinSet<()>>,
}

/// Where a consumer reads.
#[derive(Debug, Clone)]
pub(crate) enum Destination {
    Amqp(AmqpDestination),
    Kafka(KafkaDestination),
}

impl Destination {
    /// The queue or topic.
    fn name(&self) -> &str {
        match self {
            Self::Amqp(amqp) => &amqp.queue,
            Self::Kafka(kafka) => &kafka.topic,
        }
    }
}

impl Consumer {
    /// Starts reading; the destination was declared before.
    pub(crate) fn start(destination: Destination) -> Self {
        let inbox = Arc::new(Inbox::default());
        let task = Mutex::new(read(&destination, &inbox));
        Self { inbox, destination, task }
    }

    /// Where it reads.
    pub(crate) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Reads from the beginning of a destination that was made anew under the same name.
    pub(crate) fn begin_again(&self) {
        self.inbox.state().offsets.clear();
        self.reconnect();
    }

    /// Goes on with another client.
    pub(crate) fn reconnect(&self) {
        let mut task = self.task.lock().expect("nobody panics while holding the task");
        *task = read(&self.destination, &self.inbox);
    }

    /// The exchange in front of it, if it reads from RabbitMQ.
    pub(crate) fn exchange(&self) -> Option<&str> {
        match &self.destination {
            Destination::Amqp(amqp) => Some(&amqp.exchange),
            Destination::Kafka(_) => None,
        }
    }

    /// Everything received so far, in the order of arrival.
    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.inbox.state().deliveries.clone()
    }

    /// How many distinct messages were received so far.
    pub(crate) fn received(&self) -> usize {
        *self.inbox.distinct.borrow()
    }

    /// Waits until `count` distinct messages have come.
    pub(crate) async fn wait_received(&self, count: usize) {
        let mut distinct = self.inbox.distinct.subscribe();
        let what = format!("{count} messages from {}", self.destination.name());
        let enough = wait_for(what, async {
            distinct.wait_for(|&received| received >= count).await.map(|_| ())
        });
        enough.await.expect("the inbox lives as long as the consumer");
    }

    /// Waits until everything that the broker has *now* was received: marks are put behind it and
    /// waited for.
    pub(crate) async fn drain(&self) {
        let marks = match &self.destination {
            Destination::Amqp(amqp) => amqp::put_marks(amqp).await,
            Destination::Kafka(kafka) => kafka::put_marks(kafka).await,
        };
        let mut seen = self.inbox.marks_seen.subscribe();
        let mut all = async || {
            seen.wait_for(|_| marks.is_subset(&self.inbox.state().marks)).await.map(|_| ())
        };
        if tokio::time::timeout(STALLED_AFTER, all()).await.is_err() {
            // A client library may not recover from what its broker has been through. What is there is
            // read by another one.
            self.reconnect();
        }
        let end = wait_for(format!("the end of {}", self.destination.name()), all()).await;
        end.expect("the inbox lives as long as the consumer");
    }
}

fn read(destination: &Destination, inbox: &Arc<Inbox>) -> JoinSet<()> {
    let mut task = JoinSet::new();
    match destination.clone() {
        Destination::Amqp(amqp) => task.spawn(amqp::consume(amqp, inbox.clone())),
        Destination::Kafka(kafka) => task.spawn(kafka::consume(kafka, inbox.clone())),
    };
    task
}

/// What has arrived, and who waits for more.
#[derive(Default)]
struct Inbox {
    state: Mutex<State>,
    distinct: watch::Sender<usize>,
    marks_seen: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    deliveries: Vec<Delivery>,
    ids: HashSet<Uuid>,
    /// Kafka: partition and offset of every record.
    offsets: HashSet<(i32, i64)>,
    marks: HashSet<Uuid>,
}

/// A message as a broker's client library gave it, in the wire format's terms.
struct Received {
    content: Content,
    message_id: Option<String>,
    row_id: Option<String>,
    resent: Option<String>,
    /// The tag of a configuration.
    relay: Option<String>,
    /// The broker says that this consumer may have had it before.
    redelivered: bool,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the inbox")
    }

    /// Whether this record was not read before.
    fn is_new(&self, partition: i32, offset: i64) -> bool {
        self.state().offsets.insert((partition, offset))
    }

    fn record(&self, received: Received) {
        let message_id = received.message_id.and_then(|id| Uuid::parse_str(&id).ok());
        let mut state = self.state();
        if received.redelivered && message_id.is_some_and(|id| state.ids.contains(&id)) {
            return;
        }
        state.deliveries.push(Delivery {
            message_id,
            row_id: received.row_id.and_then(|id| id.parse().ok()),
            digest: received.content.digest(),
            resent: received.resent,
            relay: received.relay,
            received_at_us: now_us(),
        });
        if let Some(id) = message_id
            && state.ids.insert(id)
        {
            let distinct = state.ids.len();
            drop(state);
            self.distinct.send_replace(distinct);
        }
    }

    fn record_mark(&self, mark: Uuid) {
        self.state().marks.insert(mark);
        self.marks_seen.send_modify(|seen| *seen += 1);
    }
}

/// Microseconds since the Unix epoch, of the clock that writer and consumers share.
pub(crate) fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as i64)
}

#[cfg(test)]
mod tests;
