//! Kafka as a target: an idempotent producer of librdkafka, confirmed by its delivery callback, or by
//! the commit of its transaction.

mod classify;
mod credential;
mod inbox;
mod limit;
mod polled;
mod producer;
mod record;
mod refused;
pub mod setting;
mod transaction;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::classify::{Verdict, classify, with_hint};
use self::producer::{Connecting, Producer, properties};
use self::record::{destination, record};
use self::transaction::{Ended, Outcome, Transaction};
use super::fence::FenceName;
use super::{Broken, ConnectError, Event, Refusal, STAND_BY_PAUSE, Submission, Target};
use crate::broker::{Broker, BrokerKind};
use crate::config::{KafkaConfig, KafkaFence, KafkaTimestamp};
use crate::route::RouteConfig;
use crate::target::wire::bury;

/// Connections tried before missing confirms are called an outage. A broker that restarts, or an
/// election, is over by then, and librdkafka goes on without a duplicate; a new producer cannot.
const RECONNECTS_PATIENT: u32 = 4;

/// How soon a full queue is tried again. The caller's window is smaller: it is never full.
const HELD_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// How often the files of a refused password or certificate are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A Kafka target.
pub struct KafkaTarget {
    config: KafkaConfig,
    routes: Vec<RouteConfig>,
    fence: Option<FenceName>,
    connecting: Connecting,
    session: Option<Session>,
    /// Connected, without the fence.
    at_hand: Option<Producer>,
    /// Producers that have nothing to publish any more, and end.
    closing: JoinSet<()>,
}

/// What lives as long as one producer.
struct Session {
    producer: Producer,
    timestamp: KafkaTimestamp,
    /// librdkafka's queue was full: these go first, in this order.
    held: VecDeque<Submission>,
    /// Answers that are not in the inbox: refused without asking a broker, or of a transaction.
    answers: Vec<Event>,
    /// Handed to librdkafka and not yet answered.
    outstanding: usize,
    /// With `fence = "transaction"`.
    transaction: Option<Transaction>,
    /// A broker is in trouble and something waits for a confirm: when that is called a loss.
    patient_until: Option<Instant>,
    /// When the files of password and certificates are looked at again, if a broker refuses them.
    look_at: Instant,
    /// Asks for the limits of topics.
    asking: JoinSet<()>,
    broken: Option<String>,
    /// The loss was told: nothing more comes.
    lost: bool,
}

impl KafkaTarget {
    /// A target that is not connected. `fence` is its `transactional.id`, if `config` says so.
    #[must_use]
    pub fn new(config: KafkaConfig, routes: Vec<RouteConfig>, fence: FenceName) -> Self {
        let fence = (config.fence == KafkaFence::Transaction).then_some(fence);
        let (connecting, closing) = (Connecting::new(), JoinSet::new());
        Self { config, routes, fence, connecting, session: None, at_hand: None, closing }
    }

    /// The topics that no broker has, or shows to this user, each with what it said. For `check`.
    pub async fn missing_topics(&mut self, topics: Vec<String>) -> Vec<(String, String)> {
        let Some(session) = self.session.take() else { return Vec::new() };
        let timeout = self.config.connect_timeout;
        let asked = tokio::task::spawn_blocking(move || {
            let missing = topics.into_iter().filter_map(|topic| {
                let reason = session.producer.missing_topic(&topic, timeout)?;
                Some((topic, reason))
            });
            (missing.collect(), session)
        });
        match asked.await {
            Ok((missing, session)) => {
                self.session = Some(session);
                missing
            }
            Err(error) => vec![(String::new(), format!("the asking thread: {error}"))],
        }
    }

    async fn open(&mut self) -> Result<Producer, ConnectError> {
        Producer::open(&self.config, self.fence.as_ref(), &mut self.connecting).await
    }

    /// Its thread looks every 100 ms whether it should end, and nobody need wait for that.
    fn drop_aside(&mut self, producer: Producer) {
        while self.closing.try_join_next().is_some() {}
        self.closing.spawn_blocking(move || drop(producer));
    }
}

impl Target for KafkaTarget {
    async fn stand_by(&mut self) -> Infallible {
        loop {
            if self.at_hand.is_none() {
                self.at_hand = self.open().await.ok();
            }
            if let Some(producer) = &self.at_hand {
                while producer.is_sound() {
                    producer.inbox.wait().await;
                }
            }
            if let Some(producer) = self.at_hand.take() {
                self.drop_aside(producer);
            }
            tokio::time::sleep(STAND_BY_PAUSE).await;
        }
    }

    async fn connect(&mut self) -> Result<(), ConnectError> {
        self.disconnect().await;
        let producer = match self.at_hand.take() {
            Some(producer) if producer.is_sound() => producer,
            lost => {
                if let Some(producer) = lost {
                    self.drop_aside(producer);
                }
                self.open().await?
            }
        };
        let producer = match &self.fence {
            Some(fence) => producer.take(fence, &self.config, &mut self.connecting).await?,
            None => producer,
        };
        let transaction = self.fence.is_some().then(Transaction::default);
        self.session = Some(Session::on(producer, transaction, self.config.timestamp));
        Ok(())
    }

    fn submit(&mut self, submission: Submission) {
        let Some(session) = &mut self.session else { return };
        session.held.push_back(submission);
        session.send_held(&self.routes);
    }

    async fn events(&mut self, events: &mut Vec<Event>) {
        let Some(session) = &mut self.session else { return std::future::pending().await };
        let config = &self.config;
        session.events(&self.routes, config, events).await;
        session.producer.inbox.limits().ask(&mut session.asking, || properties(config));
    }

    async fn disconnect(&mut self) {
        let Some(session) = self.session.take() else { return };
        let idle = session.is_idle();
        let Session { producer, transaction, .. } = session;
        producer.give_up();
        if let Some(transaction) = transaction {
            transaction.close().await;
        }
        if idle {
            self.drop_aside(producer);
        } else {
            producer.close().await;
        }
    }

    async fn farewell(mut self) {
        self.disconnect().await;
        if let Some(producer) = self.at_hand.take() {
            self.drop_aside(producer);
        }
        while self.closing.join_next().await.is_some() {}
    }

    fn broker(&self) -> Option<Broker> {
        let place = self.session.as_ref()?.producer.cluster_id().map(str::to_owned);
        Some(Broker { kind: BrokerKind::Kafka, place })
    }
}

impl Session {
    fn on(producer: Producer, transaction: Option<Transaction>, timestamp: KafkaTimestamp) -> Self {
        Self {
            producer,
            timestamp,
            held: VecDeque::new(),
            answers: vec![],
            outstanding: 0,
            transaction,
            patient_until: None,
            look_at: Instant::now(),
            asking: JoinSet::new(),
            broken: None,
            lost: false,
        }
    }

    /// Whether nothing is left that could still be published.
    fn is_idle(&self) -> bool {
        let pending = self.transaction.as_ref().is_some_and(Transaction::is_pending);
        self.outstanding == 0 && self.held.is_empty() && !pending
    }

    fn send_held(&mut self, routes: &[RouteConfig]) {
        while self.broken.is_none()
            && self.transaction.as_ref().is_none_or(Transaction::is_open)
            && let Some(submission) = self.held.pop_front()
        {
            match self.send(&submission, routes) {
                Ok(()) => {
                    self.outstanding += 1;
                    if let Some(transaction) = &mut self.transaction {
                        transaction.sent(submission);
                    }
                }
                Err(Unsent::Full) => return self.held.push_front(submission),
                Err(Unsent::Refused(refusal)) => {
                    self.answers.push(Event::Refused(submission.ticket, refusal));
                }
                Err(Unsent::Broken(reason)) => self.broken = Some(reason),
            }
        }
    }

    fn send(&self, submission: &Submission, routes: &[RouteConfig]) -> Result<(), Unsent> {
        let (topic, headers) = destination(&submission.message, &routes[submission.route])?;
        let record = record(submission, &topic, headers, self.timestamp)?;
        let Err(error) = self.producer.send(record) else { return Ok(()) };
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
            Verdict::Refuse(reaction) => {
                let reason = with_hint(reason(), reaction, self.timestamp);
                Unsent::Refused(Refusal { reaction, reason })
            }
        })
    }

    /// All state is in `self`, and a wake-up is never lost: a dropped future loses nothing.
    async fn events(
        &mut self,
        routes: &[RouteConfig],
        config: &KafkaConfig,
        events: &mut Vec<Event>,
    ) {
        if self.lost {
            std::future::pending::<()>().await;
        }
        let before = events.len();
        loop {
            self.collect(config, events);
            // An answer makes room.
            self.send_held(routes);
            if let Some(transaction) = &mut self.transaction {
                transaction.commit(self.producer.native());
            }
            events.append(&mut self.answers);
            if let Some(reason) = self.broken.take() {
                self.lost = true;
                // At once, not at `disconnect`: what is unknown now shall not be published later.
                self.producer.give_up();
                let reason = self.producer.fatal_error().unwrap_or(reason);
                events.push(Event::Broken(Broken { reason, suspect: None }));
            }
            if events.len() > before {
                return;
            }
            // librdkafka counts a message until its callback has returned: a full queue may have
            // room only after the last news.
            let retry = (!self.held.is_empty()).then(|| Instant::now() + HELD_RETRY_INTERVAL);
            // While there is trouble, the files of a refused password are looked at as well.
            let look = self.patient_until.map(|until| until.min(Instant::now() + LOOK_INTERVAL));
            let until = retry.into_iter().chain(look).min();
            let ended = tokio::select! {
                () = self.producer.inbox.wait() => None,
                () = sleep_until(until) => None,
                ended = ended(&mut self.transaction) => Some(ended),
            };
            if let Some(ended) = ended {
                // What it reported stands in the inbox by now.
                self.collect(config, events);
                self.settle(ended);
            }
        }
    }

    /// A transaction has ended.
    fn settle(&mut self, ended: Ended) {
        let Some(transaction) = &mut self.transaction else { return };
        // What was purged has no report.
        self.outstanding = 0;
        match transaction.settle(ended) {
            Outcome::Answered(mut answers, again) => {
                self.answers.append(&mut answers);
                again.into_iter().rev().for_each(|submission| self.held.push_front(submission));
            }
            Outcome::Broken(reason, mut refused) => {
                self.answers.append(&mut refused);
                self.broken.get_or_insert(reason);
            }
        }
    }

    /// Takes what librdkafka has told.
    fn collect(&mut self, config: &KafkaConfig, events: &mut Vec<Event>) {
        let mut news = self.producer.inbox.news();
        if !news.outcomes.is_empty() {
            // Somebody answers.
            self.patient_until = None;
        }
        self.outstanding = self.outstanding.saturating_sub(news.outcomes.len());
        match &mut self.transaction {
            None => events.append(&mut news.outcomes),
            Some(transaction) => transaction.reported(&mut news.outcomes),
        }
        self.broken = self.broken.take().or_else(|| news.broken.take());
        let waiting =
            self.outstanding > 0 || self.transaction.as_ref().is_some_and(Transaction::is_pending);
        let Some(trouble) = news.trouble.as_ref().filter(|_| waiting) else {
            self.patient_until = None;
            return;
        };
        let now = Instant::now();
        let patience = config.connect_timeout * RECONNECTS_PATIENT;
        let until = *self.patient_until.get_or_insert_with(|| now + patience);
        if now >= until && self.broken.is_none() {
            self.broken = Some(trouble.reason.clone());
        }
        if trouble.refused.is_none() || self.broken.is_some() || now < self.look_at {
            return;
        }
        // A refused password or certificate: a producer that is made now may have another one.
        let reason = trouble.reason.clone();
        drop(news);
        self.look_at = now + LOOK_INTERVAL;
        if !self.producer.is_up_to_date(config) {
            self.broken = Some(reason);
        }
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

async fn ended(transaction: &mut Option<Transaction>) -> Ended {
    match transaction {
        Some(transaction) => transaction.ended().await,
        None => std::future::pending().await,
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
