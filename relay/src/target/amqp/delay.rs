//! Returned messages that asked for a delay. Pure.
//!
//! The exchange type x-delayed-message returns what it keeps for later: to it, a message that is not
//! routed at once is not routed. Whether such a return is to be believed depends on the exchange's
//! type, which has to be asked for; until then the refusal is kept here.

use std::collections::HashMap;

use super::known::Kind;
use crate::target::{Event, Reaction, Refusal, Ticket, Trouble};

/// Why nothing is sent to such an exchange, and what the operator can do.
pub(super) const DELAYS: &str = "the message has an x-delay header and came back: the exchange delays \
     messages (x-delayed-message) and delivers it later all the same, or no queue is bound and this \
     user may not ask for the exchange's type; hint: set mandatory = false on the route if the \
     exchange delays; else bind a queue, grant the user the permission to configure the exchange, \
     and release the destination";

/// The refusals that wait for the exchange's type.
#[derive(Debug, Default)]
pub(super) struct Delayed {
    /// Returned, and not yet answered: the exchange of each.
    returned: HashMap<Ticket, Box<str>>,
    undecided: Vec<(Box<str>, Ticket, Refusal)>,
}

impl Delayed {
    /// Whether a message of this exchange waits for its type: then that was asked for.
    pub(super) fn is_asked(&self, exchange: &str) -> bool {
        self.returned.values().any(|name| &**name == exchange)
            || self.undecided.iter().any(|(name, ..)| &**name == exchange)
    }

    /// A message that asked for a delay came back.
    pub(super) fn returned(&mut self, ticket: Ticket, exchange: &str) {
        self.returned.insert(ticket, exchange.into());
    }

    /// Looks through the events from `first` on: what cannot be answered yet is kept.
    pub(super) fn sift(
        &mut self,
        events: &mut Vec<Event>,
        first: usize,
        kind: impl Fn(&str) -> Option<Kind>,
    ) {
        if self.returned.is_empty() {
            return;
        }
        for event in events.split_off(first) {
            match event {
                Event::Refused(ticket, refusal) => match self.returned.remove(&ticket) {
                    None => events.push(Event::Refused(ticket, refusal)),
                    Some(exchange) => match kind(&exchange) {
                        None => self.undecided.push((exchange, ticket, refusal)),
                        Some(kind) => events.push(Event::Refused(ticket, decided(refusal, kind))),
                    },
                },
                event => events.push(event),
            }
        }
    }

    /// The exchange's type is known.
    pub(super) fn decide(&mut self, exchange: &str, kind: Kind, events: &mut Vec<Event>) {
        for (name, ticket, refusal) in std::mem::take(&mut self.undecided) {
            if &*name == exchange {
                events.push(Event::Refused(ticket, decided(refusal, kind)));
            } else {
                self.undecided.push((name, ticket, refusal));
            }
        }
    }
}

fn decided(refusal: Refusal, kind: Kind) -> Refusal {
    match kind {
        Kind::Ordinary => refusal,
        Kind::Delays => refuse(),
    }
}

/// The refusal of what an exchange would delay.
pub(super) fn refuse() -> Refusal {
    Refusal { reaction: Reaction::Park(Trouble::Delays), reason: DELAYS.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_of_a_delayed_message_waits_for_the_type_of_its_exchange() {
        let mut delayed = Delayed::default();
        let unroutable =
            Refusal { reaction: Reaction::Park(Trouble::Unroutable), reason: "unroutable".into() };
        delayed.returned(2, "later");
        delayed.returned(3, "topic");
        let mut events: Vec<_> =
            (1..=3).map(|ticket| Event::Refused(ticket, unroutable.clone())).collect();
        delayed.sift(&mut events, 0, |_| None);
        assert_eq!(events, [Event::Refused(1, unroutable.clone())], "no delay was asked for");
        delayed.decide("topic", Kind::Ordinary, &mut events);
        delayed.decide("later", Kind::Delays, &mut events);
        assert_eq!(
            events[1..],
            [Event::Refused(3, unroutable.clone()), Event::Refused(2, refuse())]
        );
        assert!(!delayed.is_asked("later"));

        delayed.returned(4, "later");
        let mut events = vec![Event::Confirmed(9), Event::Refused(4, unroutable)];
        delayed.sift(&mut events, 0, |_| Some(Kind::Delays));
        assert_eq!(events, [Event::Confirmed(9), Event::Refused(4, refuse())]);
    }
}
