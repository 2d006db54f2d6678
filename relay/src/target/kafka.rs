//! Kafka as a target: an idempotent producer of librdkafka, confirmed by its delivery callback.

mod classify;
mod inbox;
mod producer;
mod record;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::Instant;

use self::classify::{Verdict, classify};
use self::producer::Producer;
use self::record::{destination, record};
use super::{Broken, ConnectError, Event, Refusal, Submission, Target};
use crate::config::KafkaConfig;
use crate::route::{Destination, RouteConfig};
use crate::target::wire::bury;

/// A Kafka target.
pub struct KafkaTarget {
    config: KafkaConfig,
    routes: Vec<RouteConfig>,
    session: Option<Session>,
}

/// What lives as long as one producer.
struct Session {
    producer: Producer,
    /// librdkafka's queue was full: these go first, in this order.
    held: VecDeque<Submission>,
    /// Answered without a delivery report.
    refused: Vec<Event>,
    /// Handed to librdkafka and not yet answered.
    outstanding: usize,
    /// All brokers are down, and something waits for them: when that is called a loss.
    down_until: Option<Instant>,
    broken: Option<String>,
    /// The loss was told: nothing more comes.
    lost: bool,
}

impl KafkaTarget {
    /// A target that is not connected.
    #[must_use]
    pub fn new(config: KafkaConfig, routes: Vec<RouteConfig>) -> Self {
        Self { config, routes, session: None }
    }
}

impl Target for KafkaTarget {
    async fn connect(&mut self) -> Result<(), ConnectError> {
        self.disconnect().await;
        let producer = Producer::connect(&self.config).await?;
        self.session = Some(Session::on(producer));
        Ok(())
    }

    fn submit(&mut self, submission: Submission) {
        let Some(session) = &mut self.session else { return };
        session.held.push_back(submission);
        session.send_held(&self.routes);
    }

    async fn events(&mut self, events: &mut Vec<Event>) {
        let Some(session) = &mut self.session else { return std::future::pending().await };
        session.events(&self.routes, self.config.connect_timeout, events).await;
    }

    async fn disconnect(&mut self) {
        if let Some(session) = self.session.take() {
            session.producer.close().await;
        }
    }

    async fn missing_destinations(&mut self) -> Vec<String> {
        let topics = self.routes.iter().filter_map(|route| match &route.destination {
            Destination::Kafka { topic, .. } => topic.constant(),
            Destination::Amqp { .. } => None,
        });
        let topics: BTreeSet<String> = topics.map(str::to_owned).collect();
        let Some(session) = self.session.take() else { return Vec::new() };
        let timeout = self.config.connect_timeout;
        let asked = tokio::task::spawn_blocking(move || {
            let missing =
                topics.iter().filter_map(|topic| session.producer.missing_topic(topic, timeout));
            (missing.collect(), session)
        });
        match asked.await {
            Ok((missing, session)) => {
                self.session = Some(session);
                missing
            }
            Err(error) => vec![format!("the asking thread: {error}")],
        }
    }
}

impl Session {
    fn on(producer: Producer) -> Self {
        Self {
            producer,
            held: VecDeque::new(),
            refused: vec![],
            outstanding: 0,
            down_until: None,
            broken: None,
            lost: false,
        }
    }

    fn send_held(&mut self, routes: &[RouteConfig]) {
        while self.broken.is_none()
            && let Some(submission) = self.held.front()
        {
            match self.send(submission, routes) {
                Ok(()) => self.outstanding += 1,
                Err(Unsent::Full) => return,
                Err(Unsent::Refused(refusal)) => {
                    self.refused.push(Event::Refused(submission.ticket, refusal));
                }
                Err(Unsent::Broken(reason)) => self.broken = Some(reason),
            }
            self.held.pop_front();
        }
    }

    fn send(&self, submission: &Submission, routes: &[RouteConfig]) -> Result<(), Unsent> {
        let (topic, headers) = destination(&submission.message, &routes[submission.route])?;
        let Err(error) = self.producer.send(record(submission, &topic, headers)?) else {
            return Ok(());
        };
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let reason = || format!("topic `{topic}`: {code}");
        Err(match classify(code) {
            Verdict::Full => Unsent::Full,
            Verdict::Broken | Verdict::Purged => Unsent::Broken(reason()),
            // Refused alone and before it was sent: nothing else can be to blame.
            Verdict::Refuse(_) if code == Code::MessageSizeTooLarge => {
                let bytes = submission.message.payload().map_or(0, <[u8]>::len);
                let limit = self.producer.message_bytes_max();
                Unsent::Refused(bury(format!(
                    "topic `{topic}`: payload of {bytes} bytes exceeds message.max.bytes = {limit}"
                )))
            }
            Verdict::Refuse(reaction) => Unsent::Refused(Refusal { reaction, reason: reason() }),
        })
    }

    /// All state is in `self`, and a wake-up is never lost: a dropped future loses nothing.
    async fn events(
        &mut self,
        routes: &[RouteConfig],
        patience: Duration,
        events: &mut Vec<Event>,
    ) {
        if self.lost {
            std::future::pending::<()>().await;
        }
        let before = events.len();
        loop {
            self.collect(patience, events);
            // An answer makes room.
            self.send_held(routes);
            events.append(&mut self.refused);
            if let Some(reason) = self.broken.take() {
                self.lost = true;
                let reason = self.producer.fatal_error().unwrap_or(reason);
                events.push(Event::Broken(Broken { reason, suspect: None }));
            }
            if events.len() > before {
                return;
            }
            match self.down_until {
                None => self.producer.inbox.wait().await,
                Some(until) => {
                    let _ = tokio::time::timeout_at(until, self.producer.inbox.wait()).await;
                }
            }
        }
    }

    /// Takes what librdkafka has told.
    fn collect(&mut self, patience: Duration, events: &mut Vec<Event>) {
        let mut news = self.producer.inbox.news();
        self.outstanding = self.outstanding.saturating_sub(news.outcomes.len());
        events.append(&mut news.outcomes);
        self.broken = self.broken.take().or_else(|| news.broken.take());
        if !(news.all_down && self.outstanding > 0) {
            self.down_until = None;
            return;
        }
        // librdkafka reconnects by itself and loses nothing; but an outage shall be seen as one.
        let until = *self.down_until.get_or_insert_with(|| Instant::now() + patience);
        if Instant::now() >= until && self.broken.is_none() {
            let trouble = news.trouble.take().map(|trouble| trouble.reason);
            self.broken = Some(trouble.unwrap_or_else(|| "all brokers are down".into()));
        }
    }
}

/// Why a submission was not handed over.
enum Unsent {
    Full,
    Refused(Refusal),
    Broken(String),
}

impl From<Refusal> for Unsent {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
