//! RabbitMQ as a target: one connection, one channel, confirms, mandatory and persistent always.
//!
//! Half of the window is on the wire, the other half waits here: a message is confirmed only at a
//! barrier (see `confirms`), and it is the messages published later that are the barrier for those
//! confirmed earlier. With the whole window on the wire, the channel would run empty each time.

mod classify;
mod confirms;
mod connection;
pub mod management;
pub mod probe;
mod publication;
mod publish;
mod refused;
mod unseen;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::task::{Context, Poll};

use lapin::Confirmation;
use lapin::message::BasicReturnMessage;
use tokio::task::JoinSet;

use self::classify::{broken, classify_return};
use self::confirms::Confirms;
use self::connection::{Connection, is_aftermath};
use self::publication::{Publication, row_of};
use self::unseen::Unseen;
use super::fence::FenceName;
use super::{Broken, ConnectError, Event, Refusal, STAND_BY_PAUSE, Submission, Target};
use crate::broker::{Broker, BrokerKind};
use crate::config::{AmqpConfig, AmqpFence};
use crate::route::RouteConfig;

/// A RabbitMQ target.
pub struct AmqpTarget {
    config: AmqpConfig,
    routes: Vec<RouteConfig>,
    on_wire_max: usize,
    fence: Option<FenceName>,
    channel: Option<Publishing>,
    /// Open, without the fence.
    at_hand: Option<Connection>,
    /// Connections that hold nothing any more, and end.
    leaving: JoinSet<()>,
}

/// What lives as long as one connection.
struct Publishing {
    connection: Connection,
    /// Taken and not published yet.
    waiting: VecDeque<Submission>,
    /// Published, the confirm not seen yet.
    unseen: Unseen,
    confirms: Confirms,
    /// Refused without asking the broker.
    refused: Vec<Event>,
    /// The connection was lost and the loss was told: nothing more comes.
    lost: bool,
}

impl AmqpTarget {
    /// A target that is not connected. `window_messages_max` is what the caller has outstanding at
    /// most; `fence` is held by every connection, if `config` says so.
    #[must_use]
    pub fn new(
        config: AmqpConfig,
        routes: Vec<RouteConfig>,
        window_messages_max: usize,
        fence: FenceName,
    ) -> Self {
        let fence = (config.fence == AmqpFence::ExclusiveQueue).then_some(fence);
        Self {
            config,
            routes,
            on_wire_max: window_messages_max.div_ceil(2),
            fence,
            channel: None,
            at_hand: None,
            leaving: JoinSet::new(),
        }
    }

    /// What is at hand, if it is still good for the fence.
    async fn take_at_hand(&mut self) -> Result<Option<Connection>, ConnectError> {
        let Some(mut connection) = self.at_hand.take() else { return Ok(None) };
        match connection.take(self.fence.as_ref()).await {
            Ok(()) => Ok(Some(connection)),
            // Lost, perhaps long ago, and nobody had noticed.
            Err(ConnectError::Outage(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Target for AmqpTarget {
    async fn stand_by(&mut self) -> Infallible {
        loop {
            if self.at_hand.is_none() {
                self.at_hand = Connection::open(&self.config, None).await.ok();
            }
            if let Some(connection) = &mut self.at_hand {
                poll_fn(|cx| connection.poll_lost(cx)).await;
                self.at_hand = None;
            }
            tokio::time::sleep(STAND_BY_PAUSE).await;
        }
    }

    async fn connect(&mut self) -> Result<(), ConnectError> {
        self.disconnect().await;
        let connection = match self.take_at_hand().await? {
            Some(connection) => connection,
            None => Connection::open(&self.config, self.fence.as_ref()).await?,
        };
        self.channel = Some(Publishing::on(connection));
        Ok(())
    }

    fn submit(&mut self, submission: Submission) {
        let Some(channel) = &mut self.channel else { return };
        channel.waiting.push_back(submission);
        channel.publish_waiting(&self.routes, self.on_wire_max);
    }

    async fn events(&mut self, events: &mut Vec<Event>) {
        let Some(channel) = &mut self.channel else { return std::future::pending().await };
        poll_fn(|cx| channel.poll_events(cx, &self.routes, self.on_wire_max, events)).await;
    }

    async fn disconnect(&mut self) {
        while self.leaving.try_join_next().is_some() {}
        let Some(channel) = self.channel.take() else { return };
        let idle = channel.is_idle();
        let Publishing { mut connection, .. } = channel;
        if idle && connection.let_go(self.fence.as_ref()).await {
            // The broker takes its time for it, and the next leader need not wait.
            self.leaving.spawn(connection.farewell());
        } else {
            connection.close().await;
        }
    }

    async fn farewell(mut self) {
        self.disconnect().await;
        if let Some(connection) = self.at_hand.take() {
            self.leaving.spawn(connection.farewell());
        }
        while self.leaving.join_next().await.is_some() {}
    }

    fn blocked(&self) -> bool {
        self.channel.as_ref().is_some_and(|channel| channel.connection.is_blocked())
    }

    fn broker(&self) -> Option<Broker> {
        let place = Some(self.channel.as_ref()?.connection.virtual_host());
        Some(Broker { kind: BrokerKind::Amqp, place })
    }
}

impl Publishing {
    fn on(connection: Connection) -> Self {
        Self {
            connection,
            waiting: VecDeque::new(),
            unseen: Unseen::default(),
            confirms: Confirms::default(),
            refused: vec![],
            lost: false,
        }
    }

    /// Whether nothing can be published, nor is anything that was still unconfirmed.
    fn is_idle(&self) -> bool {
        let none = self.waiting.is_empty() && self.unseen.is_empty();
        // lapin writes nothing to a blocked broker, not even a farewell.
        none && !self.lost && !self.connection.is_blocked()
    }

    fn publish_waiting(&mut self, routes: &[RouteConfig], on_wire_max: usize) {
        while !self.lost
            && self.unseen.len() < on_wire_max
            && let Some(submission) = self.waiting.pop_front()
        {
            let route = &routes[submission.route];
            match Publication::of(&submission, route, self.connection.frame_bytes_max()) {
                Ok(publication) => {
                    let id = submission.message.id();
                    let publish = self.connection.publish(publication, submission.message);
                    let number = self.confirms.published(submission.ticket, id);
                    self.unseen.push(number, publish);
                }
                Err(refusal) => self.refused.push(Event::Refused(submission.ticket, refusal)),
            }
        }
    }

    /// All state is in `self`: a dropped `events` future loses nothing.
    fn poll_events(
        &mut self,
        cx: &mut Context<'_>,
        routes: &[RouteConfig],
        on_wire_max: usize,
        events: &mut Vec<Event>,
    ) -> Poll<()> {
        if self.lost {
            return Poll::Pending;
        }
        let before = events.len();
        let lost = loop {
            let outcome = self.see_confirms(cx);
            if outcome.is_some() {
                break outcome;
            }
            // Only now: what is published here is a barrier for what was just seen.
            let on_wire = self.unseen.len();
            self.publish_waiting(routes, on_wire_max);
            if self.unseen.len() == on_wire {
                break None;
            }
        };
        events.append(&mut self.refused);
        self.confirms.release(events);
        if let Some(broken) = lost.or_else(|| self.poll_lost(cx)) {
            self.lost = true;
            // At once, not at `disconnect`: what is unknown now shall not be published later.
            self.connection.cut();
            self.waiting.clear();
            self.unseen = Unseen::default();
            events.push(Event::Broken(broken));
        }
        if events.len() > before { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Looks at the confirms that are there.
    fn see_confirms(&mut self, cx: &mut Context<'_>) -> Option<Broken> {
        self.unseen.begin_look();
        while let Poll::Ready((number, outcome)) = self.unseen.poll_next(cx) {
            let (acked, returned) = match outcome {
                Ok(Confirmation::Ack(returned)) => (true, returned),
                Ok(Confirmation::Nack(returned)) => (false, returned),
                Ok(Confirmation::NotRequested) => {
                    let reason = "the channel is not in confirm mode".to_owned();
                    return Some(Broken { reason, suspect: None });
                }
                Err(error) => {
                    let cause = Some(error).filter(|error| !is_aftermath(error));
                    return Some(match cause {
                        Some(error) => broken(&error),
                        None => self.poll_lost(cx).unwrap_or_else(|| Broken {
                            reason: "the channel is closed".into(),
                            suspect: None,
                        }),
                    });
                }
            };
            self.confirms.completed(number, acked);
            if let Some(returned) = returned
                && let Err(broken) = self.take_return(&returned)
            {
                return Some(broken);
            }
        }
        None
    }

    fn take_return(&mut self, returned: &BasicReturnMessage) -> Result<(), Broken> {
        let reason = format!(
            "unroutable: {} {}, exchange `{}`, routing key `{}`",
            returned.reply_code, returned.reply_text, returned.exchange, returned.routing_key
        );
        let refusal = Refusal { reaction: classify_return(returned.reply_code), reason };
        let matched =
            row_of(&returned.properties).and_then(|row| self.confirms.returned(row, refusal).ok());
        matched.ok_or_else(|| Broken {
            // Should not be; but then no confirm of this channel can be trusted any more.
            reason: "the broker returned a message that is not in flight".into(),
            suspect: None,
        })
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Option<Broken> {
        match self.connection.poll_lost(cx) {
            Poll::Ready(error) => Some(broken(&error)),
            Poll::Pending => None,
        }
    }
}
