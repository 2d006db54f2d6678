//! Where messages go: the contract between the flow and a broker.

pub mod amqp;
pub mod fence;
pub mod kafka;
pub mod wire;

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use uuid::Uuid;

use crate::broker::Broker;
use crate::message::{Message, Resent};

/// A standby tries this often to have a broker at hand: nobody waits for it yet.
const STAND_BY_PAUSE: Duration = Duration::from_secs(5);

/// The flow's own number for one submission: strictly increasing within a connection.
/// A message that is sent again has a new ticket.
pub type Ticket = u64;

/// One message handed over for publishing.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Comes back in the outcome.
    pub ticket: Ticket,
    /// What to publish.
    pub message: Message,
    /// The route that takes it: an index into the target's routes.
    pub route: usize,
    /// Why it is sent again, if it is.
    pub resent: Option<Resent>,
    /// The replay it belongs to: the header `x-outbox-replay`.
    pub replay: Option<Uuid>,
    /// It is sent to find out whether its parked destination works again. A target that cannot tell
    /// beforehand sends it where a refusal harms no other message.
    pub probe: bool,
}

/// What became of the messages that were submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The broker has the message as durably as it was asked to.
    Confirmed(Ticket),
    /// The broker (or the client library, for something no broker would take) refused this message.
    Refused(Ticket, Refusal),
    /// Everything submitted and not yet answered is *unknown*: it may or may not have been published.
    /// The target is disconnected; no further event of it comes before the next `connect`.
    Broken(Broken),
}

/// A refusal that is about one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it calls for.
    pub reaction: Reaction,
    /// For people: what the broker said, with the noun (exchange, topic, limit). Never a payload.
    pub reason: String,
}

/// The reaction a refusal calls for; decided by one `classify` next to each client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// This destination is in trouble: later, no blame on the message.
    Park(Trouble),
    /// This message, later. Anything unknown.
    Retry,
    /// This message, later, as often as it takes: the broker failed, and not because of it.
    Later,
    /// This message, never: too large, illegal.
    Bury,
    /// Refused together with others (a Kafka batch): to be sent again alone before it is blamed.
    Suspect,
    /// As `Suspect`, but what refuses it alone is a setting of its destination: it waits for that,
    /// and what the setting does not concern flows.
    Setting(Setting),
    /// Refused because of another message of its batch: at once again.
    Innocent,
    /// The route asks for what the row does not have: it waits for other routes.
    Route,
}

/// A setting of a destination that some of its messages run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Which times of a record the topic takes.
    Timestamp,
    /// Which records it calls valid: a compacted topic takes none without a key.
    Record,
    /// A policy of the broker's operator.
    Policy,
}

impl Setting {
    /// For the name of what waits.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timestamp => "record timestamps",
            Self::Record => "invalid records",
            Self::Policy => "a policy",
        }
    }

    /// Whether the message itself shows that this setting refuses it.
    ///
    /// The code of a refused batch does not: where one record alone is invalid, librdkafka (2.12)
    /// gives its code to every record of the batch
    /// (`rd_kafka_interceptors_on_acknowledgement_queue`). So any other message is sent alone first.
    #[must_use]
    pub fn is_shown_by(self, message: &Message) -> bool {
        self == Self::Record && message.key().is_none()
    }
}

/// What is wrong with a destination. It decides how much of it waits, and when it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The exchange or the topic does not exist, or the broker does not show it to this user.
    Missing,
    /// This user may not write to the exchange, or to the topic.
    Forbidden,
    /// This user may not write to the exchange with this routing key.
    ForbiddenKey,
    /// Nothing was sent: the target has still to ask the broker whether the exchange exists, and
    /// asks about others first.
    Unlooked,
    /// Nothing was sent: the broker refused another routing key of this exchange, so each one is
    /// tried alone first.
    Untried,
    /// No queue is bound there.
    Unroutable,
    /// A queue behind it refuses messages. Queues beside it got them: each try is a copy for those.
    Refuses,
    /// The broker gave no answer in time, on a channel that carried this message alone.
    Silent,
    /// A setting of the destination refuses what is sent there.
    Setting,
    /// The exchange returns what it delivers later: each try would be a copy, and none would be
    /// confirmed. The operator has to change the route.
    Delays,
}

impl Trouble {
    /// Whether every routing key of the exchange waits.
    #[must_use]
    pub fn is_of_the_exchange(self) -> bool {
        matches!(self, Self::Missing | Self::Forbidden | Self::Unlooked)
    }

    /// Whether the exchange is there and may be written to: what is wrong lies behind it.
    #[must_use]
    pub fn proves_the_exchange(self) -> bool {
        matches!(self, Self::ForbiddenKey | Self::Unroutable | Self::Refuses | Self::Delays)
    }

    /// Whether the broker was asked about the destination at all.
    #[must_use]
    pub fn is_tried(self) -> bool {
        !matches!(self, Self::Unlooked | Self::Untried)
    }
}

/// A loss of the connection (or channel) with everything in flight on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// For people.
    pub reason: String,
    /// `None` for an outage: no message in flight has caused it. `Park`: the destination of one of
    /// them has, and the target knows enough by now to refuse that one before it is published.
    /// Otherwise one of them has (a channel closed by 406): they are sent again in ever smaller
    /// groups until the culprit shows itself.
    pub suspect: Option<Reaction>,
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The broker cannot be used now: try again later, for ever. No attempt is charged to any message.
    #[error("{0}")]
    Outage(String),
    /// A predecessor holds the fence: soon again, since it is freed within the broker's time-out for
    /// connections whose client is silent.
    #[error("{0}")]
    Fenced(String),
    /// It will never work as configured (credentials refused, TLS refused): exit 78.
    #[error("{reason}\nhint: {hint}")]
    Configuration {
        /// What the broker said.
        reason: String,
        /// What the operator can do.
        hint: String,
    },
}

/// A broker. One value a pipeline, driven by one task.
///
/// Order: messages are published in the order of `submit`, and the broker keeps that order for one
/// ordering key as far as the protocol allows (same exchange and queue, same partition).
pub trait Target: Send {
    /// Keeps at hand, for the next `connect`, whatever of a connection needs no leadership: the socket, the
    /// login. Holds no fence and publishes nothing. Never returns, and says nothing of what fails: `connect` will.
    ///
    /// Cancel safety: what is at hand stays.
    fn stand_by(&mut self) -> impl Future<Output = Infallible> + Send;

    /// Connects and makes ready to publish. After `Ok` nothing that was submitted to an earlier
    /// connection can be published any more by this process.
    ///
    /// Cancel safety: dropping the future leaves the target disconnected.
    fn connect(&mut self) -> impl Future<Output = Result<(), ConnectError>> + Send;

    /// Takes one message; returns at once and never waits for the network. The outcome, even of a
    /// message that cannot be encoded, comes from `events`. The caller bounds how many are
    /// outstanding (`window_messages_max`, `window_bytes_max`); a target is built with room for that.
    fn submit(&mut self, submission: Submission);

    /// Waits for at least one event and appends all that are there. Each submission is answered at
    /// most once. After `Broken` the caller calls `disconnect`, then `connect`.
    ///
    /// Cancel safety: an event is either still to come or already in `events`; none is lost.
    fn events(&mut self, events: &mut Vec<Event>) -> impl Future<Output = ()> + Send;

    /// Drops the connection: at once if anything is outstanding. When it returns, nothing can be published any more by
    /// this process, no event of it will come, and the fence is free, as far as the broker still answers.
    ///
    /// Cancel safety: the connection is given up before the first await; only the waiting for the
    /// client library's threads is lost.
    fn disconnect(&mut self) -> impl Future<Output = ()> + Send;

    /// Waits until what `stand_by` kept and what `disconnect` left has ended as the broker's protocol has it; not
    /// for long.
    ///
    /// Cancel safety: a dropped future cuts what is still open.
    fn farewell(self) -> impl Future<Output = ()> + Send;

    /// Whether the broker has asked this connection to be silent (RabbitMQ's `connection.blocked`):
    /// confirms may take as long as it pleases, and their absence is no sign of an outage.
    fn blocked(&self) -> bool {
        false
    }

    /// Where this connection leads, as the broker calls it; `None` while there is none, or nothing is
    /// known of it.
    fn broker(&self) -> Option<Broker> {
        None
    }
}
