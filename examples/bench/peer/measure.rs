//! One contestant at work: the drain, the latency, a crash.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::contestant::{Contestant, Entry};
use super::{CRASH_COLUMNS, DRAIN_COLUMNS, LATENCY_COLUMNS};
use crate::arguments::Arguments;
use crate::census::Census;
use crate::crash::quiet;
use crate::curve::Curve;
use crate::limit;
use crate::rig::Rig;
use crate::steady::{Journal, Reader, Source, write};
use crate::usage::Process;

/// Commits a second.
const RATES: [u64; 2] = [200, 1_000];
/// After a crash, something that has not come by then does not come.
const RECOVERY_MAX: Duration = Duration::from_secs(180);
const BARE_ROWS_MIN: u64 = 1_000_000;

pub(super) async fn drain(
    rig: &Rig,
    contestant: Contestant,
    rows: u64,
    arguments: &Arguments,
) -> [f64; DRAIN_COLUMNS.len()] {
    let entry = Entry::enter(rig, contestant).await;
    entry.load(rows).await;
    let wal = entry.wal_bytes().await;
    let running = entry.start(arguments).await;
    let processes = [running.process(), rig.postgres_process(), rig.kafka_process()];
    let mut before = processes.map(Process::cpu);
    let curve = Curve::watch(&entry.meter, rows, || before = processes.map(Process::cpu)).await;
    let peak_mib = processes[0].peak_mib();
    entry.wait_marked(rows).await;
    let after = processes.map(Process::cpu);
    let wal = entry.wal_bytes().await - wal;
    running.stop().await;
    entry.leave().await;
    let cpu = |n: usize| (after[n] - before[n]).per_100k(rows);
    [curve.rate(rows), f64::NAN, cpu(0), cpu(1), cpu(2), peak_mib, wal / rows as f64]
}

/// What nobody can exceed: a producer with all rows at hand, and both cores to itself.
pub(super) async fn bare(rig: &Rig, rows: u64) -> [f64; DRAIN_COLUMNS.len()] {
    // Its start is in its time: enough rows that it does not matter.
    let [rate, cpu, broker] = limit::bare_producer(rig, rows.max(BARE_ROWS_MIN)).await;
    [rate, f64::NAN, cpu, f64::NAN, broker, f64::NAN, f64::NAN]
}

pub(super) async fn latency(
    rig: &Rig,
    contestant: Contestant,
    arguments: &Arguments,
) -> [f64; LATENCY_COLUMNS.len()] {
    let entry = Entry::enter(rig, contestant).await;
    let running = entry.start(arguments).await;
    let mut line = [f64::NAN; LATENCY_COLUMNS.len()];
    // A JVM takes long to start, and one row through it says that it has.
    let first = Arc::new(Journal::new(1));
    let mut reader = Reader::start(&entry.meter, first.clone()).await;
    let source =
        Source { url: &entry.database.url, insert: entry.contestant.insert(), sender: None };
    write(&source, 1, &first).await;
    reader.wait_all(&first).await;
    for (n, rate) in RATES.into_iter().enumerate() {
        let journal = Arc::new(Journal::new(rate * arguments.scale.steady().as_secs()));
        reader.go_on(journal.clone());
        let before = running.process().cpu();
        let seconds = write(&source, rate, &journal).await;
        reader.wait_all(&journal).await;
        let cpu = running.process().cpu() - before;
        let consumed = journal.times(rate as usize).consumed();
        line[2 * n] = consumed.p50;
        line[2 * n + 1] = consumed.p99;
        line[LATENCY_COLUMNS.len() - 1] = cpu.0 / seconds * 100.0;
    }
    drop(reader);
    running.stop().await;
    entry.leave().await;
    line
}

pub(super) async fn crash(
    rig: &Rig,
    contestant: Contestant,
    rows: u64,
    arguments: &Arguments,
) -> [f64; CRASH_COLUMNS.len()] {
    let entry = Entry::enter(rig, contestant).await;
    entry.load(rows).await;
    let running = entry.start(arguments).await;
    Curve::watch(&entry.meter, rows / 2, || {}).await;
    running.kill().await;
    quiet(&entry.meter).await;
    let running = entry.start(arguments).await;
    Curve::watch(&entry.meter, rows, || {}).await;
    let begun = Instant::now();
    let mut census = Census::default();
    while census.distinct < rows && begun.elapsed() < RECOVERY_MAX {
        quiet(&entry.meter).await;
        census = Census::take(&entry.meter).await;
    }
    running.stop().await;
    entry.leave().await;
    [rows as f64, census.duplicates() as f64, rows as f64 - census.distinct as f64]
}
