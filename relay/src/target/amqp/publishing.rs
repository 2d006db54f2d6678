//! What lives as long as one connection: messages on their way, on the main channel and beside it.
//!
//! Half of the window is on the wire, the other half waits here: a message is confirmed only at a
//! barrier (see `confirms`), and it is the messages published later that are the barrier for those
//! confirmed earlier. With the whole window on the wire, the channel would run empty each time.

use std::collections::{HashSet, VecDeque};
use std::task::{Context, Poll};
use std::time::Instant;

use lapin::message::BasicReturnMessage;
use lapin::types::ShortString;
use lapin::{Confirmation, Error};

use super::classify::{NACKED, NACKED_REASON, blame, broken, classify, classify_return, describe};
use super::confirms::Confirms;
use super::connection::{Connection, is_aftermath};
use super::delay::{self, Delayed};
use super::known::{Kind, Known, Way};
use super::looking::{Entry, Looking};
use super::publication::{Publication, has_delay, row_of};
use super::side::{Answer, Failure, Job, Outcome, Probe, Probed, Side};
use super::unseen::Unseen;
use crate::route::RouteConfig;
use crate::target::{Broken, Event, Reaction, Refusal, Submission, Ticket, Trouble};

/// What outlives a connection.
pub(super) struct Rules {
    pub(super) routes: Vec<RouteConfig>,
    pub(super) on_wire_max: usize,
    pub(super) known: Known,
}

/// What lives as long as one connection.
pub(super) struct Publishing {
    connection: Connection,
    side: Side,
    /// Taken and not published yet.
    waiting: VecDeque<Submission>,
    /// Until the broker has said whether their exchanges exist.
    looking: Looking,
    /// Keys of which a message was refused by the answer that is being worked through.
    refused_keys: HashSet<Box<[u8]>>,
    /// What that answer is about: a probe for it has its answer, and does not ask again.
    looked: Option<ShortString>,
    /// Published, the confirm not seen yet.
    unseen: Unseen,
    confirms: Confirms,
    delayed: Delayed,
    /// Answered without the main channel.
    answered: Vec<Event>,
    /// The side channel was asked for something since it was last polled.
    asked: bool,
    /// The connection was lost and the loss was told: nothing more comes.
    lost: bool,
}

impl Publishing {
    pub(super) fn on(mut connection: Connection, rules: &Rules) -> Self {
        Self {
            side: Side::new(connection.opener(), connection.take_side()),
            connection,
            waiting: VecDeque::new(),
            looking: Looking::new(2 * rules.on_wire_max),
            refused_keys: HashSet::new(),
            looked: None,
            unseen: Unseen::default(),
            confirms: Confirms::default(),
            delayed: Delayed::default(),
            answered: vec![],
            asked: false,
            lost: false,
        }
    }

    /// Whether nothing can be published, nor is anything that was still unconfirmed.
    pub(super) fn is_idle(&self) -> bool {
        let none = self.waiting.is_empty() && self.looking.is_empty() && self.unseen.is_empty();
        // lapin writes nothing to a blocked broker, not even a farewell.
        none && self.side.is_idle() && !self.lost && !self.connection.is_blocked()
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.connection.is_blocked()
    }

    pub(super) fn virtual_host(&self) -> String {
        self.connection.virtual_host()
    }

    pub(super) fn into_connection(self) -> Connection {
        self.connection
    }

    pub(super) fn submit(&mut self, submission: Submission, rules: &mut Rules) {
        self.waiting.push_back(submission);
        self.publish_waiting(rules);
    }

    fn publish_waiting(&mut self, rules: &mut Rules) {
        while !self.lost
            && self.unseen.len() < rules.on_wire_max
            && let Some(submission) = self.waiting.pop_front()
        {
            if let Some(submission) = self.take(submission, rules) {
                self.waiting.push_front(submission);
                return;
            }
        }
    }

    /// Sends a message its way; gives it back if there is no room to wait.
    fn take(&mut self, submission: Submission, rules: &mut Rules) -> Option<Submission> {
        if self.looking.holds(&submission) {
            let entry = self.looking.wait_behind(submission);
            return self.entered(entry, None);
        }
        let Submission { ticket, route, probe, .. } = submission;
        let frame_bytes_max = self.connection.frame_bytes_max();
        let publication = match Publication::of(&submission, &rules.routes[route], frame_bytes_max)
        {
            Ok(publication) => publication,
            Err(refusal) => {
                self.answered.push(Event::Refused(ticket, refusal));
                return None;
            }
        };
        let probe = probe && self.looked.as_ref() != Some(&publication.exchange);
        match way(&publication, probe, &rules.known) {
            Way::Main(place) => {
                let id = submission.message.id();
                let publish = self.connection.publish(publication, submission.message);
                let number = self.confirms.published(ticket, id, place);
                self.unseen.push(number, publish);
            }
            Way::Side => {
                let delayed = publication.is_delayed();
                let probe = Probe { ticket, message: submission.message, publication, delayed };
                self.ask(Job::Probe(Box::new(probe)));
            }
            // Those behind a refused one of their key wait in any case, and one look each takes long.
            Way::Look if self.looking.is_crowded() && self.is_behind_refused(&submission) => {
                self.answered.push(unlooked(ticket));
            }
            Way::Look => {
                let (exchange, probe) = (publication.exchange, submission.probe);
                let entry = self.looking.wait_for(exchange.as_str(), submission);
                return self.entered(entry, Some(Job::Look { exchange, probe }));
            }
            Way::Refuse(trouble, reason) => {
                let refusal = Refusal { reaction: Reaction::Park(trouble), reason };
                self.answered.push(Event::Refused(ticket, refusal));
            }
        }
        None
    }

    fn entered(&mut self, entry: Entry, look: Option<Job>) -> Option<Submission> {
        match entry {
            Entry::Ask => {
                look.into_iter().for_each(|look| self.ask(look));
                None
            }
            Entry::Waits => None,
            Entry::Refused(submission) => {
                self.answered.push(unlooked(submission.ticket));
                None
            }
            Entry::Full(submission) => Some(submission),
        }
    }

    fn ask(&mut self, job: Job) {
        self.asked = true;
        self.side.ask(job);
    }

    /// All state is in `self`: a dropped `events` future loses nothing.
    pub(super) fn poll_events(
        &mut self,
        cx: &mut Context<'_>,
        rules: &mut Rules,
        events: &mut Vec<Event>,
    ) -> Poll<()> {
        if self.lost {
            return Poll::Pending;
        }
        let before = events.len();
        let lost = loop {
            let outcome = self.see_confirms(cx, &mut rules.known);
            if outcome.is_some() {
                break outcome;
            }
            // What either publishes has still to be looked at, so that its confirm wakes this task.
            let on_wire = self.unseen.len();
            self.see_answers(cx, rules);
            // Only now: what is published here is a barrier for what was just seen.
            self.publish_waiting(rules);
            if self.unseen.len() == on_wire && !self.asked {
                break None;
            }
        };
        events.append(&mut self.answered);
        let first = events.len();
        self.confirms.release(events);
        self.delayed.sift(events, first, |exchange| rules.known.kind(exchange));
        if let Some(broken) = lost.or_else(|| self.poll_lost(cx, &mut rules.known)) {
            self.lost = true;
            // At once, not at `disconnect`: what is unknown now shall not be published later.
            self.connection.cut();
            self.waiting.clear();
            self.unseen = Unseen::default();
            self.side = Side::new(self.connection.opener(), None);
            events.push(Event::Broken(broken));
        }
        if events.len() > before { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Looks at the confirms that are there.
    fn see_confirms(&mut self, cx: &mut Context<'_>, known: &mut Known) -> Option<Broken> {
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
                        Some(error) => lost(&error, known),
                        None => self.poll_lost(cx, known).unwrap_or_else(|| Broken {
                            reason: "the channel is closed".into(),
                            suspect: None,
                        }),
                    });
                }
            };
            known.proven(self.confirms.completed(number, acked));
            if let Some(returned) = returned
                && let Err(broken) = self.take_return(&returned, known)
            {
                return Some(broken);
            }
        }
        None
    }

    fn take_return(&mut self, returned: &BasicReturnMessage, known: &Known) -> Result<(), Broken> {
        let refusal = refusal_of(returned);
        let row = row_of(&returned.properties);
        let ticket = row.and_then(|row| self.confirms.returned(row, refusal).ok());
        let ticket = ticket.ok_or_else(|| Broken {
            // Should not be; but then no confirm of this channel can be trusted any more.
            reason: "the broker returned a message that is not in flight".into(),
            suspect: None,
        })?;
        if has_delay(&returned.properties) {
            let exchange = returned.exchange.as_str();
            if known.kind(exchange).is_none() && !self.delayed.is_asked(exchange) {
                self.ask(Job::Kind(returned.exchange.clone()));
            }
            self.delayed.returned(ticket, exchange);
        }
        Ok(())
    }

    /// Looks at what the side channel has found out.
    fn see_answers(&mut self, cx: &mut Context<'_>, rules: &mut Rules) {
        self.asked = false;
        while let Poll::Ready(answer) = self.side.poll_answer(cx) {
            match answer {
                Answer::Looked(exchange, found) => self.looked(exchange, found, rules),
                Answer::Kind(exchange, kind) => {
                    rules.known.is_of_kind(exchange.as_str(), kind);
                    self.delayed.decide(exchange.as_str(), kind, &mut self.answered);
                }
                Answer::Probed(probed) => self.probed(*probed, &mut rules.known),
            }
        }
    }

    fn looked(&mut self, exchange: ShortString, found: Result<(), Failure>, rules: &mut Rules) {
        let (name, now) = (exchange.as_str(), Instant::now());
        match found {
            Ok(()) => rules.known.found(name),
            // It reads nothing that could be an answer.
            Err(Failure::Silent) if self.connection.is_blocked() => {
                return self.ask(Job::Look { exchange, probe: false });
            }
            Err(failure) => {
                let (reaction, reason) = said(failure);
                let trouble = match reaction {
                    Reaction::Park(trouble) if trouble.is_of_the_exchange() => trouble,
                    _ => Trouble::Missing,
                };
                rules.known.refused(name, trouble, reason, now);
            }
        }
        let waiting = self.looking.answered(name);
        self.looked = Some(exchange);
        for submission in waiting {
            let message = submission.message.clone();
            let answered = self.answered.len();
            // There is room: no more enter than have left.
            if let Some(submission) = self.take(submission, rules) {
                self.waiting.push_front(submission);
            }
            if self.answered.len() > answered
                && let Some(key) = message.key_bytes()
            {
                self.refused_keys.insert(key.into());
            }
        }
        self.refused_keys.clear();
        self.looked = None;
    }

    fn is_behind_refused(&self, submission: &Submission) -> bool {
        !self.refused_keys.is_empty()
            && submission.message.key_bytes().is_some_and(|key| self.refused_keys.contains(key))
    }

    fn probed(&mut self, probed: Probed, known: &mut Known) {
        let Probed { ticket, exchange, routing_key, outcome } = probed;
        let (exchange, routing_key, now) =
            (exchange.as_str(), routing_key.as_str(), Instant::now());
        let refusal = match outcome {
            Ok(Outcome::Delays) => {
                known.is_of_kind(exchange, Kind::Delays);
                delay::refuse()
            }
            Ok(outcome) => {
                known.tried(exchange, routing_key, now);
                match outcome {
                    Outcome::Returned(returned) => refusal_of(&returned),
                    Outcome::Nacked => Refusal { reaction: NACKED, reason: NACKED_REASON.into() },
                    Outcome::Confirmed | Outcome::Delays => {
                        return self.answered.push(Event::Confirmed(ticket));
                    }
                }
            }
            Err(failure) => {
                let (reaction, reason) = said(failure);
                if let Reaction::Park(trouble) = reaction {
                    known.refused(exchange, trouble, reason.clone(), now);
                }
                Refusal { reaction, reason }
            }
        };
        self.answered.push(Event::Refused(ticket, refusal));
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>, known: &mut Known) -> Option<Broken> {
        match self.connection.poll_lost(cx) {
            Poll::Ready(error) => Some(lost(&error, known)),
            Poll::Pending => None,
        }
    }
}

/// The way of a message, where it asks for a delay as well.
fn way(publication: &Publication, probe: bool, known: &Known) -> Way {
    let (exchange, routing_key) = (publication.exchange.as_str(), publication.routing_key.as_str());
    if (probe || known.has_kinds()) && publication.is_delayed() {
        match known.kind(exchange) {
            Some(Kind::Delays) => return Way::Refuse(Trouble::Delays, delay::DELAYS.to_owned()),
            // It is asked for there before anything is sent.
            None if probe => return Way::Side,
            _ => {}
        }
    }
    known.way(exchange, routing_key, probe, Instant::now())
}

/// What the loss of the main channel, or of the connection, says.
fn lost(error: &Error, known: &mut Known) -> Broken {
    let broken = broken(error);
    if let Some(blame) = blame(error) {
        known.blamed(&blame, &broken.reason, Instant::now());
    }
    broken
}

/// What a failure on the side channel says of the one message that it was about.
fn said(failure: Failure) -> (Reaction, String) {
    let silent = || {
        let reason = "the broker gave no answer within 5 s".to_owned();
        (Reaction::Park(Trouble::Silent), reason)
    };
    match failure {
        Failure::Silent => silent(),
        // What is not about the message is about the connection, whose loss is told by itself.
        Failure::Refused(error) => match classify(&error) {
            Some(reaction) => (reaction, describe(&error)),
            None => silent(),
        },
    }
}

fn refusal_of(returned: &BasicReturnMessage) -> Refusal {
    let reason = format!(
        "unroutable: {} {}, exchange `{}`, routing key `{}`",
        returned.reply_code, returned.reply_text, returned.exchange, returned.routing_key
    );
    Refusal { reaction: classify_return(returned.reply_code), reason }
}

fn unlooked(ticket: Ticket) -> Event {
    let reason =
        "whether the exchange exists is not known yet: the broker is asked about others first";
    let reaction = Reaction::Park(Trouble::Unlooked);
    Event::Refused(ticket, Refusal { reaction, reason: reason.to_owned() })
}
