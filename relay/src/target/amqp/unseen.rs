//! Publishes whose confirm was not seen yet, looked at in their order.
//!
//! The order is what makes a look cheap: only the first is asked. One that is not confirmed for long (a
//! queue without its majority) steps aside, and is asked at the beginning of each look from then on.
//! At the beginning, because its confirm may carry the return of a message that is seen later in the
//! same look, and whose barrier can be seen in the next one at the earliest (see `confirms`).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use lapin::Confirmation;
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection::Publish;

/// A message that is the first and unconfirmed for this long keeps no other waiting.
const PATIENCE: Duration = Duration::from_secs(1);

/// The publishes of one channel.
#[derive(Default)]
pub(super) struct Unseen {
    queue: VecDeque<Waiting>,
    aside: Vec<Waiting>,
    /// Those of `aside` that this look has still to ask.
    unasked: usize,
    /// Wakes when the first of the queue has to step aside.
    timer: Option<Pin<Box<Sleep>>>,
}

struct Waiting {
    number: u64,
    since: Instant,
    publish: Publish,
}

impl Unseen {
    pub(super) fn push(&mut self, number: u64, publish: Publish) {
        self.queue.push_back(Waiting { number, since: Instant::now(), publish });
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.aside.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins a look: those that stepped aside are asked first.
    pub(super) fn begin_look(&mut self) {
        self.unasked = self.aside.len();
    }

    /// The next confirm that is there, with the number of its message.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(u64, lapin::Result<Confirmation>)> {
        while self.unasked > 0 {
            self.unasked -= 1;
            if let Poll::Ready(outcome) = self.aside[self.unasked].publish.as_mut().poll(cx) {
                return Poll::Ready((self.aside.swap_remove(self.unasked).number, outcome));
            }
        }
        while let Some(first) = self.queue.front_mut() {
            if let Poll::Ready(outcome) = first.publish.as_mut().poll(cx) {
                let number = first.number;
                self.queue.pop_front();
                return Poll::Ready((number, outcome));
            }
            let until = first.since + PATIENCE;
            if Instant::now() < until {
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
                if timer.deadline() != until {
                    timer.as_mut().reset(until);
                }
                let _ = timer.as_mut().poll(cx);
                return Poll::Pending;
            }
            self.aside.extend(self.queue.pop_front());
        }
        Poll::Pending
    }
}
