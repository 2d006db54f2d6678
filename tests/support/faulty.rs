//! A target whose faults are a script: a decorator around a real one.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use outbox_relay::target::{Broken, ConnectError, Event, Refusal, Submission, Target, Ticket};
use tokio::sync::Notify;

/// What goes wrong with one submission of a row.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It is refused and never reaches the broker.
    Refuse(Refusal),
    /// The connection is lost before it leaves.
    Break(Broken),
    /// It reaches the broker, and instead of its answer the connection is lost.
    LoseReply,
    /// It reaches the broker; its answer comes after [`Faults::release`].
    Hold,
}

/// The script: faults by row, one a submission of that row. Shared with the test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    script: Mutex<HashMap<i64, VecDeque<Fault>>>,
    released: Notify,
}

impl Faults {
    /// Adds a fault for the next submission of the row that has none yet.
    pub(crate) fn on(&self, row: i64, fault: Fault) {
        self.script().entry(row).or_default().push_back(fault);
    }

    /// Lets every answer through that is held back.
    pub(crate) fn release(&self) {
        self.0.released.notify_one();
    }

    /// Whether every fault has happened.
    pub(crate) fn are_spent(&self) -> bool {
        self.script().values().all(VecDeque::is_empty)
    }

    fn next(&self, row: i64) -> Option<Fault> {
        self.script().get_mut(&row)?.pop_front()
    }

    fn script(&self) -> MutexGuard<'_, HashMap<i64, VecDeque<Fault>>> {
        self.0.script.lock().expect("no test panics while it holds the script")
    }
}

/// The decorator.
pub(crate) struct Faulty<T> {
    inner: T,
    faults: Faults,
    /// What is to be done with the answers of these.
    watched: HashMap<Ticket, Fault>,
    held: Vec<Event>,
    /// To be told next.
    ready: Vec<Event>,
    lost: bool,
}

impl<T: Target> Faulty<T> {
    pub(crate) fn new(inner: T, faults: Faults) -> Self {
        let (held, ready) = (vec![], vec![]);
        Self { inner, faults, watched: HashMap::new(), held, ready, lost: false }
    }

    fn lose(&mut self, broken: Broken) {
        self.lost = true;
        self.ready.push(Event::Broken(broken));
    }

    fn take(&mut self, event: Event) {
        let fault = match &event {
            Event::Confirmed(ticket) | Event::Refused(ticket, _) => self.watched.remove(ticket),
            Event::Broken(_) => {
                self.lost = true;
                None
            }
        };
        match fault {
            Some(Fault::Hold) => self.held.push(event),
            Some(Fault::LoseReply) => {
                self.lose(Broken { reason: "the reply was lost".into(), suspect: None });
            }
            _ => self.ready.push(event),
        }
    }
}

impl<T: Target> Target for Faulty<T> {
    async fn stand_by(&mut self) -> Infallible {
        self.inner.stand_by().await
    }

    async fn connect(&mut self) -> Result<(), ConnectError> {
        self.disconnect().await;
        self.inner.connect().await
    }

    fn submit(&mut self, submission: Submission) {
        if self.lost {
            return;
        }
        match self.faults.next(submission.message.id()) {
            Some(Fault::Refuse(refusal)) => {
                self.ready.push(Event::Refused(submission.ticket, refusal));
            }
            Some(Fault::Break(broken)) => self.lose(broken),
            fault => {
                fault.map(|fault| self.watched.insert(submission.ticket, fault));
                self.inner.submit(submission);
            }
        }
    }

    async fn events(&mut self, events: &mut Vec<Event>) {
        while self.ready.is_empty() {
            if self.lost {
                std::future::pending::<()>().await;
            }
            let mut answers = vec![];
            tokio::select! {
                () = self.inner.events(&mut answers) => {}
                () = self.faults.0.released.notified() => answers.append(&mut self.held),
            }
            for answer in answers {
                if !self.lost {
                    self.take(answer);
                }
            }
        }
        events.append(&mut self.ready);
    }

    async fn disconnect(&mut self) {
        self.watched.clear();
        self.held.clear();
        self.ready.clear();
        self.lost = false;
        self.inner.disconnect().await;
    }

    async fn farewell(self) {
        self.inner.farewell().await;
    }

    fn blocked(&self) -> bool {
        self.inner.blocked()
    }
}
