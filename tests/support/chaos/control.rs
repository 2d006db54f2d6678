//! Relays that are wrong on purpose, judged by the same checker: what it does not find here, it would
//! not find in the real one.

use std::fmt;

use crate::support::checker::{Report, check};
use crate::support::consumer::{AmqpDestination, Consumer, Destination, QueueKind};
use crate::support::database::Database;
use crate::support::stage::unique;
use crate::support::writer::{Batch, committed};

mod relay;

use relay::WrongRelay;

/// Messages of a control.
const ROWS: usize = 60;
/// Messages that are in flight when something happens: the most that it may send again.
const WINDOW: usize = 10;

/// What a relay does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// It marks what it has sent, not what was confirmed.
    MarkBeforeConfirm,
    /// A predecessor that was only slow goes on after its successor began.
    NoFence,
    /// It marks on another session than the one that holds the lock.
    MarkElsewhere,
    /// It reads above the highest id that it knows.
    NoHoles,
}

/// What the checker found.
#[derive(Debug, Clone)]
pub(crate) struct Caught(Option<String>);

impl Mistake {
    pub(crate) const ALL: &[Self] =
        &[Self::MarkBeforeConfirm, Self::NoFence, Self::MarkElsewhere, Self::NoHoles];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MarkBeforeConfirm => "mark-before-confirm",
            Self::NoFence => "no-fence",
            Self::MarkElsewhere => "mark-elsewhere",
            Self::NoHoles => "no-holes",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::MarkBeforeConfirm => "a row is marked before the broker has confirmed it",
            Self::NoFence => "a predecessor publishes after its successor's first message",
            Self::MarkElsewhere => "a row is marked on another session than the lock's",
            Self::NoHoles => "a cursor without holes",
        }
    }

    /// Under which name it has to be found.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::MarkBeforeConfirm | Self::NoHoles => "lost",
            Self::NoFence => "a duplicate that does not say so",
            Self::MarkElsewhere => "more duplicates than in flight",
        }
    }

    fn found(self, report: &Report) -> usize {
        match self {
            Self::MarkBeforeConfirm | Self::NoHoles => report.lost.len(),
            Self::NoFence => report.unsaid,
            Self::MarkElsewhere => report.duplicates.saturating_sub(WINDOW),
        }
    }
}

impl Caught {
    pub(crate) fn is_caught(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("NOT CAUGHT"))
    }
}

/// Lets such a relay run at these services, and judges it.
pub(crate) async fn run(mistake: Mistake, amqp: &str, postgres: &str) -> Caught {
    let count = mistake.found(&judge(Some(mistake), amqp, postgres).await);
    Caught((count > 0).then(|| format!("caught: {count}")))
}

/// The same relay as it should be: what the others are measured against.
pub(crate) async fn without_mistake(amqp: &str, postgres: &str) -> Report {
    judge(None, amqp, postgres).await
}

async fn judge(mistake: Option<Mistake>, amqp: &str, postgres: &str) -> Report {
    let database = Database::create_on(postgres).await;
    let destination = AmqpDestination::create(amqp, &unique(), QueueKind::Classic).await;
    let consumer = Consumer::start(Destination::Amqp(destination.clone()));
    let session = database.connect().await;
    let Some(mistake) = mistake else {
        Batch::orders(ROWS).write(&session).await;
        WrongRelay::start(&database, &destination).await.work_off(WINDOW).await;
        consumer.drain().await;
        return check(&committed(&session).await, &consumer.deliveries());
    };
    match mistake {
        Mistake::MarkBeforeConfirm => {
            Batch::orders(ROWS).write(&session).await;
            let mut relay = WrongRelay::start(&database, &destination).await;
            let rows = relay.read(WINDOW).await;
            relay.mark(&rows).await;
            // WHEN the relay dies between the mark and the confirm, and is started again
            drop(relay);
            WrongRelay::start(&database, &destination).await.work_off(WINDOW).await;
        }
        Mistake::NoFence => {
            Batch::orders(ROWS).write(&session).await;
            // WHEN a leader hangs with messages that it has read, and goes on after its successor
            let mut leader = WrongRelay::start(&database, &destination).await;
            let rows = leader.read(WINDOW).await;
            WrongRelay::successor(&database, &destination).await.work_off(WINDOW).await;
            leader.publish(&rows).await;
        }
        Mistake::MarkElsewhere => {
            Batch::orders(ROWS).write(&session).await;
            // WHEN a leader has lost its lock, and its mark comes after those of its successor
            let mut leader = WrongRelay::start(&database, &destination).await;
            let rows = leader.read(WINDOW).await;
            leader.publish(&rows).await;
            WrongRelay::successor(&database, &destination).await.work_off(WINDOW).await;
            leader.mark(&rows).await;
            WrongRelay::successor(&database, &destination).await.work_off(WINDOW).await;
        }
        Mistake::NoHoles => {
            // WHEN a transaction commits after one that began later
            let late = database.connect().await;
            Batch { key_prefix: "late", ..Batch::orders(ROWS / 2) }.begin(&late).await;
            Batch::orders(ROWS).write(&session).await;
            let mut relay = WrongRelay::start(&database, &destination).await;
            relay.work_off(WINDOW).await;
            late.run("COMMIT").await;
            relay.work_off(WINDOW).await;
        }
    }
    consumer.drain().await;
    check(&committed(&session).await, &consumer.deliveries())
}
