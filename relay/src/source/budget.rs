//! What a pipeline may hold in memory: rows and bytes that were read and have not left it.
//!
//! The reader takes before it reads and gives back what it did not need; whoever takes a message
//! out of the pipeline releases it. Used never exceeds `bytes_max` by more than one large row.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The rows and bytes of one pipeline. A pipeline that starts anew makes a new one.
#[derive(Debug)]
pub struct Budget {
    rows_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    rows: usize,
    bytes: usize,
    /// What the reader waits for: it is not woken by every row that leaves.
    wanted: Option<Wanted>,
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    Batch { rows: usize, bytes: usize },
    Large,
}

impl Budget {
    /// An empty budget of `rows_max` rows and `bytes_max` bytes.
    #[must_use]
    pub fn new(rows_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { rows_max, bytes_max, state: Mutex::default(), room: Notify::new() })
    }

    /// Gives back what `rows` messages of `bytes` in all ([`cost_bytes`]) took.
    ///
    /// [`cost_bytes`]: crate::message::Message::cost_bytes
    pub fn release(&self, rows: usize, bytes: usize) {
        let mut state = self.state();
        debug_assert!(state.rows >= rows && state.bytes >= bytes, "released more than was taken");
        state.rows = state.rows.saturating_sub(rows);
        state.bytes = state.bytes.saturating_sub(bytes);
        if state.wanted.is_some_and(|wanted| self.has_room(&state, wanted)) {
            state.wanted = None;
            drop(state);
            self.room.notify_one();
        }
    }

    /// Rows and bytes in use.
    #[must_use]
    pub fn used(&self) -> (usize, usize) {
        let state = self.state();
        (state.rows, state.bytes)
    }

    /// Waits for room for a whole batch; more than the budget counts as all of it. One waiter at a time.
    ///
    /// Cancel safety: nothing is taken before it returns, and a [`Reservation`] that is dropped is given back.
    pub async fn batch(self: &Arc<Self>, rows: usize, bytes: usize) -> Reservation {
        loop {
            if let Some(room) = self.try_batch(rows, bytes) {
                return room;
            }
            self.room.notified().await;
        }
    }

    /// [`batch`](Self::batch) without waiting.
    pub(super) fn try_batch(self: &Arc<Self>, rows: usize, bytes: usize) -> Option<Reservation> {
        let (rows, bytes) = (rows.min(self.rows_max), bytes.min(self.bytes_max));
        self.try_take(Wanted::Batch { rows, bytes }, rows, bytes).then(|| Reservation {
            budget: Arc::clone(self),
            rows,
            bytes,
        })
    }

    /// Waits until there is any room, then takes the bytes of one large payload, however many.
    ///
    /// Cancel safety: nothing is taken before it returns.
    pub(super) async fn large(&self, bytes: usize) {
        while !self.try_take(Wanted::Large, 0, bytes) {
            self.room.notified().await;
        }
    }

    /// [`large`](Self::large) without waiting.
    pub(super) fn try_large(&self, bytes: usize) -> bool {
        let mut state = self.state();
        let room = self.has_room(&state, Wanted::Large);
        if room {
            state.bytes += bytes;
        }
        room
    }

    /// Takes, or leaves word what is wanted: under one lock, so that no release falls between.
    fn try_take(&self, wanted: Wanted, rows: usize, bytes: usize) -> bool {
        let mut state = self.state();
        let room = self.has_room(&state, wanted);
        if room {
            state.rows += rows;
            state.bytes += bytes;
        }
        state.wanted = (!room).then_some(wanted);
        room
    }

    fn has_room(&self, state: &State, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Batch { rows, bytes } => {
                state.rows + rows <= self.rows_max && state.bytes + bytes <= self.bytes_max
            }
            Wanted::Large => state.bytes < self.bytes_max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Two sums that are updated together: a panic elsewhere leaves them right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room that was taken for a read. Dropped, it is given back.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    rows: usize,
    bytes: usize,
}

impl Reservation {
    /// Keeps what the read really took, for whoever releases it later, and gives back the rest.
    pub(super) fn keep(mut self, rows: usize, bytes: usize) {
        // A row may cost more than was foreseen only where the table's CHECKs were dropped.
        {
            let mut state = self.budget.state();
            state.rows += rows.saturating_sub(self.rows);
            state.bytes += bytes.saturating_sub(self.bytes);
        }
        self.rows = self.rows.saturating_sub(rows);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.rows, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_batch_waits_for_rows_and_for_bytes() {
        for (rows, bytes) in [(6, 0), (0, 600)] {
            let budget = Budget::new(10, 1_000);
            let Poll::Ready(first) = poll(pin!(budget.batch(rows, bytes))) else { panic!() };
            let mut second = pin!(budget.batch(5, 500));
            assert!(poll(second.as_mut()).is_pending());
            first.keep(1, 1);
            assert!(poll(second).is_ready());
            assert_eq!(budget.used(), (1, 1));
        }
    }

    #[test]
    fn a_batch_larger_than_the_budget_waits_for_all_of_it() {
        let budget = Budget::new(10, 1_000);
        let Poll::Ready(one) = poll(pin!(budget.batch(1, 1))) else { panic!() };
        let mut all = pin!(budget.batch(11, 2_000));
        assert!(poll(all.as_mut()).is_pending());
        drop(one);
        assert!(poll(all).is_ready());
    }

    #[test]
    fn i8_large_rows_exceed_the_budget_by_one_row_at_most() {
        let budget = Budget::new(10, 1_000);
        assert!(budget.try_large(999));
        assert!(budget.try_large(16_000));
        assert!(!budget.try_large(1));
        let mut next = pin!(budget.large(5));
        assert!(poll(next.as_mut()).is_pending());
        budget.release(0, 999);
        assert!(poll(next.as_mut()).is_pending());
        budget.release(0, 16_000);
        assert!(poll(next).is_ready());
        assert_eq!(budget.used(), (0, 5));
    }

    #[test]
    fn a_cancelled_wait_takes_nothing() {
        let budget = Budget::new(10, 1_000);
        let Poll::Ready(first) = poll(pin!(budget.batch(10, 0))) else { panic!() };
        {
            let mut waiting = pin!(budget.batch(10, 0));
            assert!(poll(waiting.as_mut()).is_pending());
        }
        drop(first);
        assert_eq!(budget.used(), (0, 0));
        assert!(poll(pin!(budget.batch(10, 0))).is_ready());
    }
}
