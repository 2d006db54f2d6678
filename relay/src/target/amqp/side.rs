//! The side channel: what is not known to work is tried here, one thing at a time, so that a refusal
//! takes nothing else along.
//!
//! It lives on the connection of the main channel, and so behind the same fence; a channel that the
//! broker closes leaves its connection alone. The budget: after a burst, each refusal that ends the
//! channel costs a pause, so that the broker closes at most [`ENDS_PER_SECOND`] channels a second for
//! one target.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Confirmation, Error, ExchangeKind};
use tokio::time::{Instant, Sleep, sleep_until};

use super::classify::delays;
use super::known::Kind;
use super::opener::Opener;
use super::publication::Publication;
use crate::message::Message;
use crate::target::Ticket;

/// Refusals a second, on average. Each is a channel that the broker closes and opens.
const ENDS_PER_SECOND: u32 = 50;

/// Refusals that may come at once, after a quiet time.
const ENDS_AT_ONCE: u32 = 50;

/// So long an answer is waited for: a queue that withholds its confirm keeps nothing else waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// One thing to find out.
#[derive(Debug)]
pub(super) enum Job {
    /// Whether the exchange exists. For a probe that comes before the others.
    Look { exchange: ShortString, probe: bool },
    /// Whether it delays what it returns.
    Kind(ShortString),
    /// Whether a message can be delivered.
    Probe(Box<Probe>),
}

/// A message that is tried alone.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) ticket: Ticket,
    pub(super) message: Message,
    pub(super) publication: Publication,
    /// Nothing may be sent to an exchange that delays.
    pub(super) delayed: bool,
}

/// What was found out.
#[derive(Debug)]
pub(super) enum Answer {
    /// The exchange exists, or why it does not.
    Looked(ShortString, Result<(), Failure>),
    Kind(ShortString, Kind),
    Probed(Box<Probed>),
}

/// What became of a message that was tried alone.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) ticket: Ticket,
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) outcome: Result<Outcome, Failure>,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Confirmed,
    Returned(Box<BasicReturnMessage>),
    Nacked,
    /// Nothing was sent: the exchange delays.
    Delays,
}

/// Why there is no outcome.
#[derive(Debug)]
pub(super) enum Failure {
    /// The broker refused, and closed the channel.
    Refused(Error),
    /// No answer came in time, or the connection is lost.
    Silent,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match super::connection::is_aftermath(&error) {
            true => Self::Silent,
            false => Self::Refused(error),
        }
    }
}

type Work = Pin<Box<dyn Future<Output = (Option<Channel>, Answer)> + Send>>;

/// The side channel of one connection.
pub(super) struct Side {
    opener: Opener,
    channel: Option<Channel>,
    /// Oldest first.
    looks: VecDeque<Job>,
    probes: VecDeque<Job>,
    work: Option<Work>,
    turn: u8,
    /// When the budget is whole again: each refusal puts it off.
    whole_at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Side {
    /// `channel` is one in confirm mode that nothing else uses; without it one is opened when needed.
    pub(super) fn new(opener: Opener, channel: Option<Channel>) -> Self {
        Self {
            opener,
            channel,
            looks: VecDeque::new(),
            probes: VecDeque::new(),
            work: None,
            turn: 0,
            whole_at: Instant::now(),
            timer: None,
        }
    }

    /// Asks; the answer comes from `poll_answer`.
    pub(super) fn ask(&mut self, job: Job) {
        match job {
            Job::Probe(_) | Job::Look { probe: true, .. } => self.probes.push_back(job),
            Job::Look { .. } | Job::Kind(_) => self.looks.push_back(job),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.work.is_none() && self.looks.is_empty() && self.probes.is_empty()
    }

    /// The next answer. All state is in `self`.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        loop {
            if let Some(work) = &mut self.work {
                let (channel, answer) = std::task::ready!(work.as_mut().poll(cx));
                self.work = None;
                if channel.is_none() {
                    let now = Instant::now();
                    self.whole_at =
                        self.whole_at.max(now) + Duration::from_secs(1) / ENDS_PER_SECOND;
                }
                self.channel = channel;
                return Poll::Ready(answer);
            }
            if self.is_idle() || self.poll_budget(cx).is_pending() {
                return Poll::Pending;
            }
            let Some(job) = self.next_job() else { return Poll::Pending };
            self.work = Some(Box::pin(work(self.opener.clone(), self.channel.take(), job)));
        }
    }

    fn poll_budget(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ahead = Duration::from_secs(1) / ENDS_PER_SECOND * ENDS_AT_ONCE;
        let at = self.whole_at.checked_sub(ahead).unwrap_or(self.whole_at);
        if at <= Instant::now() {
            return Poll::Ready(());
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx)
    }

    /// In turn: the oldest look, a probe, the youngest look, a probe. A flood of missing exchanges
    /// keeps neither a new one waiting that exists nor an old one that was made meanwhile.
    fn next_job(&mut self) -> Option<Job> {
        self.turn = (self.turn + 1) % 4;
        let first = match self.turn {
            0 => self.looks.pop_back(),
            2 => self.looks.pop_front(),
            _ => self.probes.pop_front(),
        };
        first.or_else(|| self.looks.pop_front()).or_else(|| self.probes.pop_front())
    }
}

/// Does one job; gives the channel back if it is still open.
async fn work(opener: Opener, channel: Option<Channel>, job: Job) -> (Option<Channel>, Answer) {
    let channel = match channel.filter(|channel| channel.status().connected()) {
        Some(channel) => Ok(channel),
        None => within(open(&opener)).await,
    };
    let answer = match job {
        Job::Look { exchange, .. } => {
            let found = match &channel {
                Ok(channel) => within(look(channel, &exchange)).await,
                Err(_) => Err(Failure::Silent),
            };
            Answer::Looked(exchange, found)
        }
        Job::Kind(exchange) => {
            let kind = match &channel {
                Ok(channel) => kind(channel, &exchange).await,
                Err(_) => Kind::Delays,
            };
            Answer::Kind(exchange, kind)
        }
        Job::Probe(probe) => {
            let (exchange, routing_key) =
                (probe.publication.exchange.clone(), probe.publication.routing_key.clone());
            let ticket = probe.ticket;
            let outcome = match &channel {
                Ok(channel) => within(try_alone(channel, &opener, *probe)).await,
                Err(_) => Err(Failure::Silent),
            };
            Answer::Probed(Box::new(Probed { ticket, exchange, routing_key, outcome }))
        }
    };
    let silent = matches!(answer, Answer::Looked(_, Err(Failure::Silent)) | Answer::Kind(..))
        || matches!(&answer, Answer::Probed(probed) if matches!(probed.outcome, Err(Failure::Silent)));
    // What was not answered may still be: on another channel nothing can be mistaken for it.
    let open = channel.ok().filter(|channel| !silent && channel.status().connected());
    (open, answer)
}

async fn within<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(ANSWER_TIMEOUT, future).await.unwrap_or(Err(Failure::Silent))
}

async fn open(opener: &Opener) -> Result<Channel, Failure> {
    let channel = opener.open().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// A passive declaration: an active one would make the exchange. It checks neither its type nor a
/// permission. The default exchange, which is always there, may not be declared at all.
async fn look(channel: &Channel, exchange: &ShortString) -> Result<(), Failure> {
    if exchange.as_str().is_empty() {
        return Ok(());
    }
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let (kind, arguments) = (ExchangeKind::Direct, FieldTable::default());
    Ok(channel.exchange_declare(exchange.clone(), kind, options, arguments).await?)
}

/// Asks for the exchange's type by a declaration that cannot succeed, and so makes nothing: where the
/// exchange is, its type or its argument differs, and where it is not, the argument's type is refused.
/// Takes the permission to configure; without it the answer is not known.
async fn kind(channel: &Channel, exchange: &ShortString) -> Kind {
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), AMQPValue::LongInt(1));
    let options = ExchangeDeclareOptions::default();
    let declared =
        channel.exchange_declare(exchange.clone(), ExchangeKind::Direct, options, arguments);
    match tokio::time::timeout(ANSWER_TIMEOUT, declared).await {
        Ok(Err(error)) if !delays(&error) => Kind::Ordinary,
        _ => Kind::Delays,
    }
}

async fn try_alone(channel: &Channel, opener: &Opener, probe: Probe) -> Result<Outcome, Failure> {
    let Probe { message, publication, delayed, .. } = probe;
    look(channel, &publication.exchange).await?;
    if delayed {
        // On a channel of its own, which the answer ends.
        let other = opener.open().await?;
        if kind(&other, &publication.exchange).await == Kind::Delays {
            return Ok(Outcome::Delays);
        }
    }
    let Publication { exchange, routing_key, properties, mandatory } = publication;
    let options = BasicPublishOptions { mandatory, immediate: false };
    let payload = message.payload().unwrap_or_default();
    let confirm =
        channel.basic_publish(exchange, routing_key, options, payload, properties).await?;
    // Nothing else is in flight here: a return that comes with this confirm is this message.
    match confirm.await? {
        Confirmation::Ack(None) => Ok(Outcome::Confirmed),
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
            Ok(Outcome::Returned(Box::new(returned)))
        }
        Confirmation::Nack(None) => Ok(Outcome::Nacked),
        Confirmation::NotRequested => Err(Failure::Silent),
    }
}
