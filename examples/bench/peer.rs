//! The same job by others, on the same services, one after the other: Debezium's outbox router, and a
//! poller as teams write it by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::census::Census;
use crate::crash::quiet;
use crate::curve::Curve;
use crate::figure::{Figures, Plot, Shape, Table, number};
use crate::limit;
use crate::rig::Rig;
use crate::steady::{Journal, Reader, Source, write};
use crate::usage::Process;

use contestant::{Contestant, Entry};

mod contestant;
mod debezium;
pub(crate) mod poller;
mod running;

const DRAIN_COLUMNS: [&str; 7] = [
    "rows/s",
    "ours ÷ this",
    "CPU s/100k",
    "PostgreSQL CPU s/100k",
    "broker CPU s/100k",
    "peak MiB",
    "WAL B/row",
];
const RATIO: usize = 1;
const LATENCY_COLUMNS: [&str; 5] =
    ["200/s p50 ms", "200/s p99 ms", "1,000/s p50 ms", "1,000/s p99 ms", "CPU % at 1,000/s"];
const CRASH_COLUMNS: [&str; 3] = ["rows", "duplicates", "lost"];

const BARE_ROWS_MIN: u64 = 1_000_000;
/// Of the rows, in a first round that counts for nobody.
const UNCOUNTED_PART: u64 = 5;
/// Commits a second.
const RATES: [u64; 2] = [200, 1_000];
/// After a crash, something that has not come by then does not come.
const RECOVERY_MAX: Duration = Duration::from_secs(180);

pub(crate) async fn section(rig: &Rig, arguments: &Arguments) -> Figures {
    let rows = arguments.scale.peer_rows();
    let all = Contestant::ALL;
    let mut drains = vec![Vec::new(); all.len()];
    let mut latencies = vec![Vec::new(); all.len()];
    let mut crashes = vec![Vec::new(); all.len()];
    let mut limit = Vec::new();
    for contestant in all {
        println!("  {}, not counted", contestant.words());
        drain(rig, contestant, rows / UNCOUNTED_PART, arguments).await;
    }
    // In turns: what else happens on the machine happens to all of them. Another one begins each round:
    // the broker's Java goes on compiling, and who comes later has it easier.
    for run in 0..arguments.runs {
        for turn in 0..all.len() {
            let n = (run + turn) % all.len();
            println!("  {}, run {} of {}", all[n].words(), run + 1, arguments.runs);
            drains[n].push(drain(rig, all[n], rows, arguments).await);
        }
        limit.push(bare(rig, rows).await);
    }
    // Once: what they show is a matter of milliseconds or of thousands.
    for (n, &contestant) in all.iter().enumerate() {
        println!("  {}, latency and crash", contestant.words());
        latencies[n].push(latency(rig, contestant, arguments).await);
        crashes[n].push(crash(rig, contestant, rows, arguments).await);
    }
    let mut drain = Table::new(
        format!("Draining {} rows of 300 B into Kafka", number(rows as f64)),
        "who",
        &DRAIN_COLUMNS,
    );
    let mut latency = Table::new("From COMMIT to the consumer, Kafka", "who", &LATENCY_COLUMNS);
    let mut crash = Table::new("kill -9 at half of the backlog", "who", &CRASH_COLUMNS);
    for (n, contestant) in all.iter().enumerate() {
        drain.push(contestant.words(), &drains[n]);
        latency.push(contestant.words(), &latencies[n]);
        crash.push(contestant.words(), &crashes[n]);
    }
    drain.push("bare librdkafka, nothing to read or mark", &limit);
    ratios(&mut drain);
    let plots = vec![bars(&drain)];
    Figures { tables: vec![drain, latency, crash], plots, notes: notes() }
}

async fn drain(
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
async fn bare(rig: &Rig, rows: u64) -> [f64; DRAIN_COLUMNS.len()] {
    // Its start is in its time: enough rows that it does not matter.
    let [rate, cpu, broker] = limit::bare_producer(rig, rows.max(BARE_ROWS_MIN)).await;
    [rate, f64::NAN, cpu, f64::NAN, broker, f64::NAN, f64::NAN]
}

async fn latency(
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

async fn crash(
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

/// Fills in how many times as fast as each of the others the first row is.
fn ratios(table: &mut Table) {
    let rate = |row: &crate::figure::Row| row.cells[0].median().unwrap_or(f64::NAN);
    let ours = table.rows.first().map_or(f64::NAN, rate);
    for row in &mut table.rows {
        row.cells[RATIO].0 = vec![ours / rate(row)];
    }
}

fn bars(table: &Table) -> Plot {
    let bar = |row: &crate::figure::Row| Some((row.name.clone(), row.cells[0].median()?));
    Plot {
        name: "peers".into(),
        title: table.title.clone(),
        x: "rows/s".into(),
        y: String::new(),
        shape: Shape::Bars(table.rows.iter().filter_map(bar).collect()),
    }
}

fn notes() -> Vec<String> {
    let version = std::env::var("OUTBOX_BENCH_DEBEZIUM_VERSION").unwrap_or_default();
    vec![
        "All with acks=all, waiting for confirms, on one topic of 3 partitions. Time counts between the \
         broker's first and last message, so nobody's start is in it; CPU from the first message on. \
         Latency and crash were measured once."
            .into(),
        format!(
            "Debezium {version}: its PostgreSQL connector with the outbox event router on Kafka \
             Connect standalone, heap 1 GB, pgoutput; *tuned*: poll.interval.ms=10, \
             max.batch.size=16384, max.queue.size=65536, producer linger.ms=5 and batch.size=1000000. \
             After a crash it goes on where it last flushed its offsets, once a minute."
        ),
        "The poller: one process, one connection, SELECT … FOR UPDATE SKIP LOCKED LIMIT 1000, librdkafka \
         (idempotent, linger 1 ms), all confirms awaited, then UPDATE sent_at or DELETE, COMMIT; 100 ms \
         of sleep when there is nothing. No order of a key once there are two of it, no retry, no dead \
         letters."
            .into(),
        "WAL is what each writes to remember what it has sent, as after a checkpoint: with the pages that \
         it touches first."
            .into(),
    ]
}
