//! What strikes from outside, each at a number of payments that were made.

use std::time::Duration;

use super::crew::Crew;
use super::plan::Plan;
use super::rig::Rig;
use crate::support::patience::{LOOK_INTERVAL, until};
use crate::support::proxy::{Network, Proxy};
use crate::support::rng::Rng;
use crate::support::session::Session;

/// One kind of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    KillConsumer,
    EndConsumerBackend,
    EndRelayBackend,
    CutRabbitMq,
    CutDatabase,
}

/// Strikes, each once so many payments were made, in this order.
pub(crate) struct Schedule(Vec<(i64, Fault)>);

/// A payment may take longer than the patience for an event: everything else is struck meanwhile.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(LOOK_INTERVAL.as_millis() as u64 * 5);

impl Fault {
    pub(crate) const ALL: [Self; 5] = [
        Self::KillConsumer,
        Self::EndConsumerBackend,
        Self::EndRelayBackend,
        Self::CutRabbitMq,
        Self::CutDatabase,
    ];

    /// As the report calls it; that of a killed consumer is counted by who finds it dead.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::KillConsumer => super::crew::KILLED_BY_SIGNAL,
            Self::EndConsumerBackend => "PostgreSQL backend of a consumer terminated",
            Self::EndRelayBackend => "PostgreSQL backends of the relay terminated",
            Self::CutRabbitMq => "connections to RabbitMQ cut",
            Self::CutDatabase => "connections of consumers to PostgreSQL cut",
        }
    }

    async fn strike(self, rig: &Rig, crew: &Crew, rng: &mut Rng) {
        match self {
            Self::KillConsumer => return crew.kill(rng.below(4) as usize).await,
            Self::EndConsumerBackend => {
                // One that has something in hand.
                end_backends(&rig.payments.connect().await, &rig.payments_role, "1").await;
            }
            Self::EndRelayBackend => {
                end_backends(&rig.requests.connect().await, &rig.relay_role, "ALL").await;
            }
            Self::CutRabbitMq => cut(&rig.amqp_link).await,
            Self::CutDatabase => cut(&rig.database_link).await,
        }
        rig.tally.count(self.about());
    }
}

impl Schedule {
    /// Spread evenly over the payments of the plan, in an order of the seed's.
    pub(crate) fn of(plan: &Plan, rng: &mut Rng) -> Self {
        let mut faults: Vec<Fault> =
            Fault::ALL.into_iter().cycle().take(Fault::ALL.len() * plan.strikes).collect();
        for at in (1..faults.len()).rev() {
            faults.swap(at, rng.below(at as u64 + 1) as usize);
        }
        let payments = (plan.messages - plan.poison) as i64;
        let step = payments / (faults.len() as i64 + 1);
        Self(faults.into_iter().enumerate().map(|(n, f)| ((n as i64 + 1) * step, f)).collect())
    }

    /// Strikes all of them.
    pub(crate) async fn run(self, rig: &Rig, crew: &Crew, mut rng: Rng) {
        let session = rig.payments.connect().await;
        for (payments, fault) in self.0 {
            while session.count("SELECT count(*) FROM payments").await < payments {
                tokio::time::sleep(PROGRESS_INTERVAL).await;
            }
            fault.strike(rig, crew, &mut rng).await;
        }
    }
}

/// Ends `limit` backends of the role that are in a transaction, or a relay's that always wait.
async fn end_backends(session: &Session, role: &str, limit: &str) {
    let text = format!(
        "SELECT count(*) FROM (
             SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity
             WHERE usename = '{role}' AND (state <> 'idle' OR '{limit}' = 'ALL') LIMIT {limit}
         ) AS backend WHERE ended"
    );
    until("a backend to be terminated", async || (session.count(&text).await > 0).then_some(()))
        .await;
}

/// Until somebody has noticed.
async fn cut(network: &Proxy) {
    network.set(Network::Down);
    network.wait_connections(1).await;
    network.set(Network::Up);
}
