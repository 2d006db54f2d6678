//! What can go wrong, by name.

use std::future::Future;
use std::pin::Pin;

use super::cell::Cell;

mod broker;
mod clock;
mod cluster;
mod content;
mod database;
mod destination;
mod network;
mod relay;
mod table;

pub(crate) use database::held;

/// A fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// For the matrix.
    pub(crate) about: &'static str,
    pub(crate) scene: Scene,
    /// What it works on: two faults at once work on different things.
    pub(crate) on: &'static [Part],
    /// It changes what all of the cell means: no other fault beside it.
    pub(crate) alone: bool,
    /// Brokers refuse single messages, so that those in flight behind them may pass (I3's named exception).
    pub(crate) refuses: bool,
    /// What happens: strike, wait, mend.
    pub(crate) happen: for<'a> fn(&'a Cell<'a>) -> Happening<'a>,
}

pub(crate) type Happening<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A part of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Relay,
    Database,
    RabbitMq,
    Kafka,
}

/// The services and settings of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    Shared,
    /// `order = "strict"`: then not even a refused message is passed.
    Strict,
    /// `fence = "none"` at RabbitMQ, `"transaction"` at Kafka.
    OtherFences,
    /// A PostgreSQL with prepared transactions.
    TwoPhase,
    /// A transaction that is older than everything else in the run.
    OldTransaction,
    /// A PostgreSQL and relays whose clock can step.
    FalseClock,
    /// The database lies on a small file system.
    SmallDisk,
    /// Three brokers, and this `min.insync.replicas`.
    ThreeBrokers(&'static str),
}

impl Fault {
    const fn new(
        name: &'static str,
        about: &'static str,
        on: &'static [Part],
        happen: for<'a> fn(&'a Cell<'a>) -> Happening<'a>,
    ) -> Self {
        Self { name, about, scene: Scene::Shared, on, alone: false, refuses: false, happen }
    }

    const fn in_scene(self, scene: Scene) -> Self {
        Self { scene, alone: true, ..self }
    }

    const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    const fn refuses(self) -> Self {
        Self { refuses: true, ..self }
    }

    /// Whether both can happen in one cell at once.
    pub(crate) fn goes_with(&self, other: &Self) -> bool {
        let apart = !self.on.iter().any(|part| other.on.contains(part));
        apart && !self.alone && !other.alone
    }

    /// Every fault there is, by service.
    pub(crate) fn all() -> impl Iterator<Item = &'static Self> {
        let groups: [&'static [Self]; 9] = [
            relay::FAULTS,
            broker::FAULTS,
            destination::FAULTS,
            content::FAULTS,
            network::FAULTS,
            database::FAULTS,
            table::FAULTS,
            clock::FAULTS,
            cluster::FAULTS,
        ];
        groups.into_iter().flatten()
    }

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        Self::all().find(|fault| fault.name == name)
    }

    /// Why it cannot happen on this machine, if so.
    pub(crate) fn unavailable(&self) -> Option<String> {
        match self.scene {
            Scene::SmallDisk => super::small_disk::SmallDisk::unavailable(),
            Scene::FalseClock if super::arena::faketime_library().is_none() => {
                Some("libfaketime is not installed".into())
            }
            _ => None,
        }
    }
}
