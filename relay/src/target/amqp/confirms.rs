//! Which message a confirm is about. Pure.
//!
//! lapin hands a returned message to whichever confirm completes next, and completes the confirms of
//! one `multiple` ack in no order: of 20,000 messages, up to 10 % of the unroutable ones looked
//! confirmed. What can be relied on: RabbitMQ returns a message before it acknowledges it, and it
//! acknowledges returned messages in their order. So by the time the whole batch of acks has been
//! worked through in which a message was confirmed, its return has been handed out, to *some*
//! confirm. Hence three rules: confirms are looked at strictly in the order of publishing; a return
//! is matched by the row's id, never by the confirm it came with; and a message counts as confirmed
//! only at a *barrier*: nothing is outstanding, or a message has been confirmed that was published
//! after this confirm was seen (so its ack belongs to a later batch).

use std::collections::VecDeque;

use crate::target::{Event, Reaction, Refusal, Ticket};

/// Everything published on one channel and not yet answered.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    /// In the order of publishing; the first `seen - released` of them have been seen complete.
    messages: VecDeque<Published>,
    /// Messages published on this channel.
    published: u64,
    /// Messages whose completion has been seen.
    seen: u64,
    /// Messages answered.
    released: u64,
}

#[derive(Debug)]
struct Published {
    ticket: Ticket,
    row: i64,
    /// How many messages had been published when the completion of this one was seen.
    published_when_seen: u64,
    /// Nacked, or returned: a return says more, and may come first.
    refusal: Option<Refusal>,
}

/// A returned message that is not among those in flight: nothing that this channel said counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownReturn;

impl Confirms {
    /// A message was published, after all others so far.
    pub(super) fn published(&mut self, ticket: Ticket, row: i64) {
        self.published += 1;
        self.messages.push_back(Published { ticket, row, published_when_seen: 0, refusal: None });
    }

    /// The completion of the next message, in the order of publishing, was seen.
    pub(super) fn completed(&mut self, acked: bool) {
        let place = usize::try_from(self.seen - self.released).expect("bounded by the window");
        let message = self.messages.get_mut(place).expect("only what was published completes");
        message.published_when_seen = self.published;
        if !acked && message.refusal.is_none() {
            let reason = "nacked by the broker".to_owned();
            message.refusal = Some(Refusal { reaction: Reaction::Retry, reason });
        }
        self.seen += 1;
    }

    /// A message came back. `row` stands in its own header.
    ///
    /// # Errors
    /// No message of that row is in flight.
    pub(super) fn returned(&mut self, row: i64, refusal: Refusal) -> Result<(), UnknownReturn> {
        // Looked for one by one: a return is rare, and rows are not always published by ascending id.
        let message = self.messages.iter_mut().find(|m| m.row == row).ok_or(UnknownReturn)?;
        message.refusal = Some(refusal);
        Ok(())
    }

    /// Answers what lies behind a barrier.
    pub(super) fn release(&mut self, events: &mut Vec<Event>) {
        while self.released < self.seen
            && let Some(first) = self.messages.front()
            && (self.seen == self.published || self.seen > first.published_when_seen)
            && let Some(message) = self.messages.pop_front()
        {
            self.released += 1;
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

    fn unroutable() -> Refusal {
        Refusal { reaction: Reaction::Park, reason: "unroutable".into() }
    }

    /// Publishes rows `from..to`, with the row as the ticket.
    fn publish(confirms: &mut Confirms, rows: std::ops::Range<i64>) {
        rows.for_each(|row| confirms.published(row.unsigned_abs(), row));
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
        confirms.completed(true);
        assert_eq!(released(&mut confirms), [(1, true)]);
    }

    #[test]
    fn the_last_of_a_batch_frees_all_of_it() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 1..4);
        confirms.completed(true);
        confirms.completed(true);
        assert_eq!(released(&mut confirms), [], "the third was published before these were seen");
        confirms.completed(true);
        assert_eq!(released(&mut confirms), [(1, true), (2, true), (3, true)]);
    }

    #[test]
    fn a_later_publish_is_a_barrier() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 1..3);
        confirms.completed(true);
        publish(&mut confirms, 3..5);
        confirms.completed(true);
        assert_eq!(released(&mut confirms), [], "3 is the first published after 1 was seen");
        confirms.completed(true);
        assert_eq!(released(&mut confirms), [(1, true)], "5 would be the first after 2 was seen");
        publish(&mut confirms, 5..6);
        confirms.completed(true);
        assert_eq!(released(&mut confirms), []);
        confirms.completed(true);
        assert_eq!(released(&mut confirms), [(2, true), (3, true), (4, true), (5, true)]);
    }

    #[test]
    fn a_return_blames_its_own_row_and_outweighs_ack_and_nack() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 1..5);
        confirms.completed(true);
        confirms.returned(1, unroutable()).unwrap();
        confirms.returned(3, unroutable()).unwrap();
        confirms.completed(false);
        confirms.completed(false);
        confirms.completed(true);
        let mut events = vec![];
        confirms.release(&mut events);
        let nacked = Refusal { reaction: Reaction::Retry, reason: "nacked by the broker".into() };
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
}
