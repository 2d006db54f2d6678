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

use super::publish::Publish;

/// A message that is the first and unconfirmed for this long keeps no other waiting.
const PATIENCE: Duration = Duration::from_secs(1);

/// The publishes of one channel.
#[derive(Default)]
pub(super) struct Unseen {
    queue: VecDeque<Waiting>,
    /// Those at the front of the queue whose frames are written.
    written: usize,
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
        // Frames are written in order; what is written needs little memory for the rest of its way.
        while self.queue.get_mut(self.written).is_some_and(|next| next.publish.is_written()) {
            self.written += 1;
        }
    }

    fn pop_front(&mut self) -> Option<Waiting> {
        self.written = self.written.saturating_sub(1);
        self.queue.pop_front()
    }

    /// The next confirm that is there, with the number of its message.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(u64, lapin::Result<Confirmation>)> {
        while self.unasked > 0 {
            self.unasked -= 1;
            if let Poll::Ready(outcome) = self.aside[self.unasked].publish.poll(cx) {
                return Poll::Ready((self.aside.swap_remove(self.unasked).number, outcome));
            }
        }
        while let Some(first) = self.queue.front_mut() {
            if let Poll::Ready(outcome) = first.publish.poll(cx) {
                let number = first.number;
                self.pop_front();
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
            let late = self.pop_front();
            self.aside.extend(late);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};

    use super::super::publish::Confirm;
    use super::*;

    fn confirmed() -> Publish {
        Publish::Written(Box::pin(ready(Ok(Confirmation::Ack(None)))))
    }

    async fn next(unseen: &mut Unseen) -> u64 {
        poll_fn(|cx| {
            unseen.begin_look();
            unseen.poll_next(cx).map(|(number, _)| number)
        })
        .await
    }

    /// Time is the test's: it passes when everybody waits.
    #[tokio::test(start_paused = true)]
    async fn one_that_is_not_confirmed_steps_aside() {
        let mut unseen = Unseen::default();
        unseen.push(0, confirmed());
        unseen.push(1, Publish::Written(Box::pin(pending())));
        unseen.push(2, confirmed());
        assert_eq!(next(&mut unseen).await, 0);
        let begun = Instant::now();
        assert_eq!(next(&mut unseen).await, 2);
        assert!(begun.elapsed() >= PATIENCE, "in order as long as it can be");
        assert_eq!(unseen.len(), 1);

        unseen.push(3, confirmed());
        assert_eq!(next(&mut unseen).await, 3);
    }

    #[tokio::test]
    async fn what_is_written_leaves_its_frames_behind() {
        let (write, written) = tokio::sync::oneshot::channel::<()>();
        let mut unseen = Unseen::default();
        unseen.push(0, confirmed());
        unseen.push(
            1,
            Publish::begin(async {
                let _ = written.await;
                Ok(Box::pin(pending()) as Confirm)
            }),
        );
        unseen.push(2, confirmed());
        unseen.begin_look();
        assert_eq!(unseen.written, 1);
        assert_eq!(next(&mut unseen).await, 0);
        assert_eq!(unseen.written, 0);
        write.send(()).unwrap();
        unseen.begin_look();
        assert_eq!(unseen.written, 2);
        assert!(matches!(unseen.queue[0].publish, Publish::Written(_)));
    }

    /// Its confirm may carry the return of a message that is seen behind it.
    #[tokio::test(start_paused = true)]
    async fn one_that_stepped_aside_is_asked_first() {
        let (answer, answered) = tokio::sync::oneshot::channel::<()>();
        let mut unseen = Unseen::default();
        let late = async {
            let _ = answered.await;
            Ok(Confirmation::Ack(None))
        };
        unseen.push(0, Publish::Written(Box::pin(late)));
        unseen.push(1, confirmed());
        assert_eq!(next(&mut unseen).await, 1);
        unseen.push(2, confirmed());
        answer.send(()).unwrap();
        assert_eq!(next(&mut unseen).await, 0);
        assert_eq!(next(&mut unseen).await, 2);
        assert!(unseen.is_empty());
    }
}
