//! The same job by others, on the same services, one after the other: Debezium's outbox router, and a
//! poller as teams write it by hand.

use crate::arguments::Arguments;
use crate::figure::{Figures, Plot, Shape, Table, number};
use crate::rig::Rig;

use contestant::Contestant;
use measure::{bare, crash, drain, latency};

mod contestant;
mod debezium;
mod measure;
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

/// Of the rows, in a first round that counts for nobody.
const UNCOUNTED_PART: u64 = 5;

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
