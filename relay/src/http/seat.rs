//! Who is served: so many connections at a time. When all seats are taken, the next client gets the
//! seat of the one that has said nothing for longest, so that silence keeps no probe waiting.
//!
//! Each client keeps its seat for a moment in any case: a flood of connections must not send a probe
//! away between its connection and its request.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{AbortHandle, AbortRegistration};
use tokio::time::Instant;

/// An honest client sends its request with its connection. With 256 seats, 1,280 others can be sent away
/// in a second before a probe that comes behind them is served.
const KEPT_FOR: Duration = Duration::from_millis(200);

/// The seats that are taken, the oldest first.
#[derive(Debug)]
pub(super) struct Seats {
    taken: VecDeque<Taken>,
    max: usize,
    next: u64,
}

#[derive(Debug)]
struct Taken {
    number: u64,
    since: Instant,
    asked: Asked,
    end: AbortHandle,
}

/// Whether a client has sent the whole head of its request.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

/// One client's.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) number: u64,
    pub(super) asked: Asked,
    /// The connection ends when its seat is given to another.
    pub(super) end: AbortRegistration,
}

impl Asked {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Seats {
    pub(super) fn new(max: usize) -> Self {
        Self { taken: VecDeque::with_capacity(max), max, next: 0 }
    }

    /// When the next client can be admitted; `None`: at any time, there is a free seat.
    pub(super) fn room_at(&self) -> Option<Instant> {
        let full = self.taken.len() >= self.max;
        let first = self.first_to_go()?;
        full.then(|| self.taken[first].since + KEPT_FOR)
    }

    /// A seat for a new client; the one that had it is sent away if there was none free.
    pub(super) fn admit(&mut self, now: Instant) -> Seat {
        if self.taken.len() >= self.max
            && let Some(taken) = self.first_to_go().and_then(|index| self.taken.remove(index))
        {
            taken.end.abort();
        }
        let (end, registration) = AbortHandle::new_pair();
        let (number, asked) = (self.next, Asked::default());
        self.next += 1;
        self.taken.push_back(Taken { number, since: now, asked: asked.clone(), end });
        Seat { number, asked, end: registration }
    }

    /// A connection has ended, by itself or because it was sent away.
    pub(super) fn leave(&mut self, number: u64) {
        self.taken.retain(|taken| taken.number != number);
    }

    /// Whose seat goes first: the oldest that has not asked. A client that trickles its request counts as
    /// silent. If all have asked, they are answered, and the oldest takes its time to read.
    fn first_to_go(&self) -> Option<usize> {
        let silent = self.taken.iter().position(|taken| !taken.asked.is_set());
        silent.or((!self.taken.is_empty()).then_some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seats: &Seats) -> Vec<u64> {
        seats.taken.iter().map(|taken| taken.number).collect()
    }

    #[test]
    fn the_client_that_is_silent_for_longest_makes_room() {
        // GIVEN three seats, and the client of the first has asked
        let now = Instant::now();
        let mut seats = Seats::new(3);
        let clients: Vec<_> = (0..3).map(|_| seats.admit(now)).collect();
        clients[0].asked.set();
        // WHEN a fourth comes THEN the oldest silent one is sent away
        let fourth = seats.admit(now);
        assert_eq!(numbers(&seats), [0, 2, 3]);
        assert!(clients[1].end.handle().is_aborted());
        assert!(!clients[0].end.handle().is_aborted());
        // WHEN all have asked THEN it is the oldest
        clients[2].asked.set();
        fourth.asked.set();
        let _fifth = seats.admit(now);
        assert_eq!(numbers(&seats), [2, 3, 4]);
        assert!(clients[0].end.handle().is_aborted());
        // WHEN one leaves THEN none is sent away for the next, and to leave twice is no harm
        seats.leave(3);
        seats.leave(1);
        let _sixth = seats.admit(now);
        assert_eq!(numbers(&seats), [2, 4, 5]);
        assert!(!clients[2].end.handle().is_aborted());
    }

    #[test]
    fn a_client_keeps_its_seat_for_a_moment() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut seats = Seats::new(2);
        assert_eq!(seats.room_at(), None);
        let first = seats.admit(now);
        assert_eq!(seats.room_at(), None);
        let _second = seats.admit(now + second);
        assert_eq!(seats.room_at(), Some(now + KEPT_FOR));
        // The first is answered: the seat of the other goes before its own.
        first.asked.set();
        assert_eq!(seats.room_at(), Some(now + second + KEPT_FOR));
    }
}
