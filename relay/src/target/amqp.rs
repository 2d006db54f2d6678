//! RabbitMQ as a target: one connection, confirms and persistent always, mandatory unless a route says
//! otherwise; one channel for all messages, and one beside it for what may be refused.
//!
//! RabbitMQ answers a publish to a missing or forbidden place by closing the channel, and everything in
//! flight on it is unknown. So nothing goes on the main channel whose exchange is not known to be there
//! (`known`): the side channel (`side`) asks the broker, and tries alone what a refusal has cast doubt on.

mod classify;
mod confirms;
mod connection;
mod delay;
mod known;
mod looking;
pub mod management;
mod opener;
pub mod probe;
mod publication;
mod publish;
mod publishing;
mod refused;
mod side;
mod unseen;

use std::convert::Infallible;
use std::future::poll_fn;

use tokio::task::JoinSet;

use self::connection::Connection;
use self::known::Known;
use self::publishing::{Publishing, Rules};
use super::fence::FenceName;
use super::{ConnectError, Event, STAND_BY_PAUSE, Submission, Target};
use crate::broker::{Broker, BrokerKind};
use crate::config::{AmqpConfig, AmqpFence};
use crate::route::RouteConfig;

/// A RabbitMQ target.
pub struct AmqpTarget {
    config: AmqpConfig,
    rules: Rules,
    fence: Option<FenceName>,
    channel: Option<Publishing>,
    /// Open, without the fence.
    at_hand: Option<Connection>,
    /// Connections that hold nothing any more, and end.
    leaving: JoinSet<()>,
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
            rules: Rules {
                routes,
                on_wire_max: window_messages_max.div_ceil(2),
                known: Known::default(),
            },
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
        self.channel = Some(Publishing::on(connection, &self.rules));
        Ok(())
    }

    fn submit(&mut self, submission: Submission) {
        let Some(channel) = &mut self.channel else { return };
        channel.submit(submission, &mut self.rules);
    }

    async fn events(&mut self, events: &mut Vec<Event>) {
        let Some(channel) = &mut self.channel else { return std::future::pending().await };
        poll_fn(|cx| channel.poll_events(cx, &mut self.rules, events)).await;
    }

    async fn disconnect(&mut self) {
        while self.leaving.try_join_next().is_some() {}
        let Some(channel) = self.channel.take() else { return };
        let idle = channel.is_idle();
        let mut connection = channel.into_connection();
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
        self.channel.as_ref().is_some_and(|channel| channel.is_blocked())
    }

    fn broker(&self) -> Option<Broker> {
        let place = Some(self.channel.as_ref()?.virtual_host());
        Some(Broker { kind: BrokerKind::Amqp, place })
    }
}
