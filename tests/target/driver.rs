//! Drives a target as a pipeline does, and keeps the books.

use std::collections::BTreeMap;

use crate::support::patience::{until, wait_for};
use outbox_relay::target::{Broken, ConnectError, Event, Refusal, Submission, Target, Ticket};

/// A connected target, what was submitted and what came back.
pub(super) struct Driver<T> {
    pub(super) target: T,
    next: Ticket,
    /// ticket → row
    outstanding: BTreeMap<Ticket, i64>,
    pub(super) outcomes: Outcomes,
}

/// What came back, in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    pub(super) confirmed: Vec<i64>,
    pub(super) refused: Vec<(i64, Refusal)>,
    pub(super) broken: Option<Broken>,
}

impl<T: Target> Driver<T> {
    pub(super) async fn connect(target: T) -> Self {
        let mut driver = Self::connected(target);
        driver.reconnect().await;
        driver
    }

    /// Of a target that is connected.
    pub(super) fn connected(target: T) -> Self {
        Self { target, next: 1, outstanding: BTreeMap::new(), outcomes: Outcomes::default() }
    }

    /// Connects (again); what had no answer stays without one.
    pub(super) async fn reconnect(&mut self) {
        self.outstanding.clear();
        self.outcomes = Outcomes::default();
        // As a pipeline does: the broker may not have let go of the last connection's fence yet.
        until("a connection", async || match self.target.connect().await {
            Err(ConnectError::Fenced(_)) => None,
            connected => {
                connected.expect("the broker is there");
                Some(())
            }
        })
        .await;
    }

    pub(super) fn submit(&mut self, mut submission: Submission) {
        submission.ticket = self.next;
        self.next += 1;
        self.outstanding.insert(submission.ticket, submission.message.id());
        self.target.submit(submission);
    }

    /// Publishes all of them, at most `window` outstanding, and waits for every answer.
    pub(super) async fn publish_all(
        &mut self,
        submissions: impl IntoIterator<Item = Submission>,
        window: usize,
    ) {
        for submission in submissions {
            while self.outstanding.len() >= window {
                self.next_events().await;
            }
            self.submit(submission);
        }
        self.settle().await;
    }

    /// Waits until everything is answered.
    pub(super) async fn settle(&mut self) {
        while !self.outstanding.is_empty() && self.outcomes.broken.is_none() {
            self.next_events().await;
        }
        assert_eq!(self.outcomes.broken, None);
    }

    /// Waits for the loss of the connection.
    pub(super) async fn broken(&mut self) -> Broken {
        loop {
            if let Some(broken) = self.outcomes.broken.take() {
                return broken;
            }
            self.next_events().await;
        }
    }

    pub(super) async fn next_events(&mut self) {
        let mut events = vec![];
        wait_for("events", self.target.events(&mut events)).await;
        assert!(!events.is_empty(), "a wake-up without an event");
        for event in events {
            assert_eq!(self.outcomes.broken, None, "an event after the loss");
            match event {
                Event::Confirmed(ticket) => {
                    let row = self.answered(ticket);
                    self.outcomes.confirmed.push(row);
                }
                Event::Refused(ticket, refusal) => {
                    let row = self.answered(ticket);
                    self.outcomes.refused.push((row, refusal));
                }
                Event::Broken(broken) => self.outcomes.broken = Some(broken),
            }
        }
    }

    fn answered(&mut self, ticket: Ticket) -> i64 {
        self.outstanding.remove(&ticket).expect("an answer to something outstanding, once")
    }
}
