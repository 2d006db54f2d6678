//! One drain: a relay is started on a backlog, and watched until everything is settled.

use futures_util::future::join_all;

use super::COLUMNS;
use crate::arguments::Arguments;
use crate::backlog::{Backlog, wal_bytes};
use crate::curve::Curve;
use crate::meter::Meter;
use crate::relay;
use crate::rig::Rig;
use crate::support::relay::RelayProcess;
use crate::usage::{CpuSecs, Process};

/// What one destination and its relay did.
#[derive(Debug, Clone)]
pub(crate) struct Drained {
    pub(crate) curve: Curve,
    /// Of all targets of the relay.
    pub(crate) relay: CpuSecs,
    pub(crate) postgres: CpuSecs,
    pub(crate) broker: CpuSecs,
    pub(crate) peak_mib: f64,
    pub(crate) wal_bytes: f64,
}

/// Drains the whole backlog into every one of the destinations, by one relay; one entry each.
pub(crate) async fn drain(
    rig: &Rig,
    backlog: &Backlog,
    meters: &[&Meter],
    arguments: &Arguments,
) -> Vec<Drained> {
    backlog.forget().await;
    drain_as_it_is(rig, backlog, meters, backlog.rows, arguments).await
}

/// The same with whatever was done to the backlog, which leaves so many rows.
pub(crate) async fn drain_as_it_is(
    rig: &Rig,
    backlog: &Backlog,
    meters: &[&Meter],
    rows: u64,
    arguments: &Arguments,
) -> Vec<Drained> {
    let session = backlog.database.connect().await;
    let wal = wal_bytes(&session).await;
    let config = relay::config(&backlog.relay_url, meters, arguments);
    let relay = RelayProcess::start(&config).await;
    let process = Process(relay.pid());
    let watched = join_all(meters.iter().map(|meter| async {
        let before = std::cell::Cell::new(look(rig, process, meter));
        let curve = Curve::watch(meter, rows, || before.set(look(rig, process, meter))).await;
        (curve, before.get())
    }));
    let watched = watched.await;
    backlog.wait_settled(meters.len()).await;
    let ends: Vec<_> = meters.iter().map(|meter| look(rig, process, meter)).collect();
    let wal_bytes = wal_bytes(&session).await - wal;
    let peak_mib = process.peak_mib();
    let ended = relay.terminate().await;
    assert!(ended.success(), "the relay ended with {ended}");
    let drained = watched.into_iter().zip(ends).map(|((curve, before), end)| Drained {
        curve,
        relay: end[0] - before[0],
        postgres: end[1] - before[1],
        broker: end[2] - before[2],
        peak_mib,
        wal_bytes,
    });
    drained.collect()
}

/// CPU used so far: the relay's, PostgreSQL's, the broker's.
fn look(rig: &Rig, relay: Process, meter: &Meter) -> [CpuSecs; 3] {
    [relay.cpu(), rig.postgres_process().cpu(), meter.broker().cpu()]
}

impl Drained {
    /// In the order of the columns.
    pub(crate) fn line(&self, backlog: &Backlog) -> [f64; COLUMNS.len()] {
        let rate = self.curve.rate(backlog.rows);
        [
            rate,
            rate * backlog.payload_bytes as f64 / 1e6,
            self.relay.per_100k(backlog.rows),
            self.postgres.per_100k(backlog.rows),
            self.broker.per_100k(backlog.rows),
            self.peak_mib,
            self.wal_bytes / backlog.rows as f64,
        ]
    }
}
