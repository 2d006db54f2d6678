//! What is in flight: submitted, without an outcome, in the order of submission.

use std::collections::VecDeque;
use std::time::Instant;

use super::item::Item;
use crate::target::Ticket;

/// One submission without an outcome.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) item: Item,
    pub(super) sent_at: Instant,
}

/// The window: bounded by the policy in messages and bytes, indexed by ticket without hashing.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The ticket of `flights[0]`.
    base: Ticket,
    /// `None` = answered; the front is never `None`.
    flights: VecDeque<Option<Flight>>,
    messages: usize,
    bytes: usize,
    /// Suspects among them: while there are any, nothing else may join.
    suspects: usize,
}

impl Window {
    pub(super) fn push(&mut self, item: Item, now: Instant) -> Ticket {
        self.messages += 1;
        self.bytes += item.message.cost_bytes();
        self.suspects += usize::from(item.suspect);
        self.flights.push_back(Some(Flight { item, sent_at: now }));
        self.base + self.flights.len() as u64 - 1
    }

    /// Takes the flight of a ticket; `None` if it has been answered (or was set aside).
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Flight> {
        let index = usize::try_from(ticket.checked_sub(self.base)?).ok()?;
        let flight = self.flights.get_mut(index)?.take()?;
        self.left(&flight);
        Some(flight)
    }

    /// Takes everything that is in flight, in order; later outcomes of those tickets find nothing.
    pub(super) fn drain(&mut self) -> Vec<Flight> {
        self.base += self.flights.len() as u64;
        let flights = std::mem::take(&mut self.flights).into_iter().flatten().collect();
        (self.messages, self.bytes, self.suspects) = (0, 0, 0);
        flights
    }

    /// Takes at most `most` fresh rows that were sent before `deadline`, with their tickets.
    pub(super) fn take_older(&mut self, deadline: Instant, most: usize) -> Vec<(Ticket, Flight)> {
        let mut taken = Vec::new();
        for index in 0..self.flights.len() {
            let slot = &mut self.flights[index];
            if taken.len() == most || slot.as_ref().is_some_and(|f| f.sent_at >= deadline) {
                break;
            }
            if slot.as_ref().is_some_and(|f| f.item.retry.is_none())
                && let Some(flight) = slot.take()
            {
                taken.push((self.base + index as u64, flight));
            }
        }
        for (_, flight) in &taken {
            self.left(flight);
        }
        taken
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.flights.front().and_then(Option::as_ref).map(|flight| flight.sent_at)
    }

    /// Whether any of it is not in `retry`.
    pub(super) fn has_fresh(&self) -> bool {
        self.flights.iter().flatten().any(|flight| flight.item.retry.is_none())
    }

    /// Whether a message of the key is in flight. Looked for one by one: a probe is rare.
    pub(super) fn has_key(&self, key: &str) -> bool {
        let mut flights = self.flights.iter().flatten();
        flights.any(|flight| flight.item.message.key_bytes() == Some(key.as_bytes()))
    }

    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_suspects(&self) -> bool {
        self.suspects > 0
    }

    fn left(&mut self, flight: &Flight) {
        self.messages -= 1;
        self.bytes -= flight.item.message.cost_bytes();
        self.suspects -= usize::from(flight.item.suspect);
        while matches!(self.flights.front(), Some(None)) {
            self.flights.pop_front();
            self.base += 1;
        }
    }
}
