//! Which message a confirm is about. Pure.
//!
//! lapin hands a returned message to whichever confirm completes next, and completes the confirms of
//! one `multiple` ack in no order: of 20,000 messages, up to 10 % of the unroutable ones looked
//! confirmed. What can be relied on: RabbitMQ returns a message before it acknowledges it. So by the
//! time the whole batch of acks has been worked through in which a message was confirmed, its return
//! has been handed out, to *some* confirm. Hence two rules: a return is matched by the row's id, never
//! by the confirm it came with; and a message counts as confirmed only at its *barrier*: nothing is
//! outstanding, or a message has been confirmed that was published after this confirm was seen (so its
//! ack belongs to a later batch). The barrier is each message's own: a queue that withholds its confirms
//! keeps no message of another queue waiting.

use std::collections::{HashMap, VecDeque};

use super::classify::{NACKED, NACKED_REASON};
use crate::target::{Event, Refusal, Ticket};

/// Everything published on one channel and not yet answered.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    /// By their number on this channel.
    messages: HashMap<u64, Published>,
    /// Complete and not answered, in the order in which that was seen, each with the number of
    /// messages that had been published by then.
    complete: VecDeque<(u64, u64)>,
    /// Messages published on this channel.
    published: u64,
    /// Messages whose completion has not been seen.
    outstanding: usize,
    /// The number behind the highest message whose completion has been seen.
    seen_end: u64,
}

#[derive(Debug)]
struct Published {
    ticket: Ticket,
    row: i64,
    /// Where it went, as `Known` numbers places.
    place: u64,
    /// Nacked, or returned: a return says more, and may come first.
    refusal: Option<Refusal>,
}

/// A returned message that is not among those in flight: nothing that this channel said counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownReturn;

impl Confirms {
    /// A message was published, after all others so far; returns its number.
    pub(super) fn published(&mut self, ticket: Ticket, row: i64, place: u64) -> u64 {
        let number = self.published;
        self.published += 1;
        self.outstanding += 1;
        self.messages.insert(number, Published { ticket, row, place, refusal: None });
        number
    }

    /// The completion of message `number` was seen; returns where it had gone.
    pub(super) fn completed(&mut self, number: u64, acked: bool) -> u64 {
        let message = self.messages.get_mut(&number).expect("only what was published completes");
        let place = message.place;
        if !acked && message.refusal.is_none() {
            message.refusal = Some(Refusal { reaction: NACKED, reason: NACKED_REASON.to_owned() });
        }
        self.outstanding -= 1;
        self.seen_end = self.seen_end.max(number + 1);
        self.complete.push_back((number, self.published));
        place
    }

    /// A message came back. `row` stands in its own header. Returns its ticket.
    ///
    /// # Errors
    /// No message of that row is in flight.
    pub(super) fn returned(&mut self, row: i64, refusal: Refusal) -> Result<Ticket, UnknownReturn> {
        // Looked for one by one: a return is rare.
        let message = self.messages.values_mut().find(|m| m.row == row).ok_or(UnknownReturn)?;
        message.refusal = Some(refusal);
        Ok(message.ticket)
    }

    /// Answers what lies behind its barrier. To be called once every completion that is there was
    /// seen: the one with a message's return may have come in the same moment as its barrier.
    pub(super) fn release(&mut self, events: &mut Vec<Event>) {
        while let Some(&(number, published)) = self.complete.front()
            && (self.outstanding == 0 || self.seen_end > published)
        {
            self.complete.pop_front();
            let Some(message) = self.messages.remove(&number) else { continue };
            events.push(match message.refusal {
                None => Event::Confirmed(message.ticket),
                Some(refusal) => Event::Refused(message.ticket, refusal),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Reaction, Trouble};

    fn unroutable() -> Refusal {
        Refusal { reaction: Reaction::Park(Trouble::Unroutable), reason: "unroutable".into() }
    }

    /// Publishes rows `from..to`, with the row as the ticket.
    fn publish(confirms: &mut Confirms, rows: std::ops::Range<i64>) {
        rows.for_each(|row| {
            confirms.published(row.unsigned_abs(), row, 7);
        });
    }

    fn released(confirms: &mut Confirms) -> Vec<(Ticket, bool)> {
        let mut events = vec![];
        confirms.release(&mut events);
        let outcome = |event| match event {
            Event::Confirmed(ticket) => (ticket, true),
            Event::Refused(ticket, _) => (ticket, false),
            Event::Broken(_) => unreachable!(),
        };
        events.into_iter().map(outcome).collect()
    }

    #[test]
    fn a_lone_message_is_confirmed_at_once() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 1..2);
        assert_eq!(released(&mut confirms), []);
        confirms.completed(0, true);
        assert_eq!(released(&mut confirms), [(1, true)]);
    }

    #[test]
    fn the_last_of_a_batch_frees_all_of_it() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 1..4);
        confirms.completed(0, true);
        confirms.completed(1, true);
        assert_eq!(released(&mut confirms), [], "the third was published before these were seen");
        confirms.completed(2, true);
        assert_eq!(released(&mut confirms), [(1, true), (2, true), (3, true)]);
    }

    #[test]
    fn a_later_publish_is_a_barrier() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 1..3);
        confirms.completed(0, true);
        publish(&mut confirms, 3..5);
        confirms.completed(1, true);
        assert_eq!(released(&mut confirms), [], "3 is the first published after 1 was seen");
        confirms.completed(2, true);
        assert_eq!(released(&mut confirms), [(1, true)], "5 would be the first after 2 was seen");
        publish(&mut confirms, 5..6);
        confirms.completed(3, true);
        assert_eq!(released(&mut confirms), []);
        confirms.completed(4, true);
        assert_eq!(released(&mut confirms), [(2, true), (3, true), (4, true), (5, true)]);
    }

    #[test]
    fn a_return_blames_its_own_row_and_outweighs_ack_and_nack() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 1..5);
        confirms.completed(0, true);
        confirms.returned(1, unroutable()).unwrap();
        confirms.returned(3, unroutable()).unwrap();
        confirms.completed(1, false);
        confirms.completed(2, false);
        confirms.completed(3, true);
        let mut events = vec![];
        confirms.release(&mut events);
        let nacked = Refusal { reaction: NACKED, reason: NACKED_REASON.into() };
        assert_eq!(
            events,
            [
                Event::Refused(1, unroutable()),
                Event::Refused(2, nacked),
                Event::Refused(3, unroutable()),
                Event::Confirmed(4),
            ]
        );
    }

    #[test]
    fn a_return_of_nothing_in_flight_is_an_error() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 1..2);
        assert_eq!(confirms.returned(2, unroutable()), Err(UnknownReturn));
    }

    #[test]
    fn a_message_that_is_never_confirmed_keeps_no_other_waiting() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 1..4);
        confirms.completed(2, true);
        confirms.completed(1, true);
        assert_eq!(released(&mut confirms), [], "their batch may not be over");
        publish(&mut confirms, 4..5);
        confirms.completed(3, true);
        assert_eq!(released(&mut confirms), [(3, true), (2, true)]);
        publish(&mut confirms, 5..6);
        confirms.completed(4, true);
        assert_eq!(released(&mut confirms), [(4, true)]);
        confirms.completed(0, true);
        assert_eq!(released(&mut confirms), [(5, true), (1, true)]);
    }
}
