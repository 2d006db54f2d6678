//! A steady stream of commits: how soon each row is at a consumer, and what an idle relay costs.

use std::sync::Arc;
use std::time::Duration;

use crate::arguments::Arguments;
use crate::backlog::Backlog;
use crate::drain::USUAL_PAYLOAD;
use crate::figure::{Figures, Table};
use crate::meter::Meter;
use crate::queue::Kind;
use crate::relay;
use crate::rig::Rig;
use crate::support::relay::RelayProcess;
use crate::usage::{CpuSecs, Process};
use dual_write::Sender;

pub(crate) use consumer::Reader;
pub(crate) use journal::Journal;
pub(crate) use writer::{Source, write};

mod consumer;
mod dual_write;
mod journal;
mod ledger;
mod writer;

/// Commits a second, one row each.
const RATES: [u64; 3] = [200, 1_000, 5_000];

const COLUMNS: [&str; 14] = [
    "commits/s",
    "consumed p50 ms",
    "consumed p99",
    "consumed p99.9",
    "after reply p50",
    "after reply p99",
    "in the log p50",
    "in the log p99",
    "settled p50",
    "settled p99",
    "relay CPU %",
    "PostgreSQL CPU %",
    "broker CPU %",
    "relay peak MiB",
];
const IDLE_COLUMNS: [&str; 3] = ["relay CPU %", "PostgreSQL CPU %", "relay peak MiB"];

const INSERT: &str = "INSERT INTO outbox.message (topic, key, type, payload)
    VALUES ('order.placed', $1, 'OrderPlaced', $2) RETURNING id";

/// What a relay that has just started does once is over by then.
const IDLE_AFTER: Duration = Duration::from_secs(3);

pub(crate) async fn section(rig: &Rig, arguments: &Arguments) -> Figures {
    let mut table =
        Table::new("One row a commit, 300 B", "destination and commits/s asked for", &COLUMNS);
    let mut idle = Table::new("Nothing to do", "targets", &IDLE_COLUMNS);
    let mut lines = Vec::new();
    for _ in 0..arguments.runs {
        lines.push(measure_idle(rig, arguments).await);
    }
    idle.push("Kafka and a quorum queue", &lines);
    for sink in [None, Some(Kind::Classic), Some(Kind::Quorum)] {
        let name =
            sink.map_or("Kafka".to_owned(), |kind| format!("RabbitMQ {} queue", kind.word()));
        for rate in RATES {
            for (between, by) in [(Between::Relay, ""), (Between::Nobody, ", without a relay")] {
                let mut lines = Vec::new();
                for _ in 0..arguments.runs {
                    lines.push(measure(rig, sink, rate, between, arguments).await);
                }
                table.push(format!("{name}, {rate}/s{by}"), &lines);
            }
        }
    }
    Figures { tables: vec![table, idle], plots: Vec::new(), notes: notes() }
}

/// Who is between the commit and the broker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    Relay,
    /// The writer sends the row itself.
    Nobody,
}

async fn measure(
    rig: &Rig,
    sink: Option<Kind>,
    rate: u64,
    between: Between,
    arguments: &Arguments,
) -> [f64; COLUMNS.len()] {
    let backlog = Backlog::empty(rig, USUAL_PAYLOAD).await;
    let meter = match sink {
        None => Meter::kafka_stamped(rig).await,
        Some(kind) => Meter::amqp(rig, kind).await,
    };
    let (relay, sender) = match between {
        Between::Relay => {
            let config = relay::config(&backlog.relay_url, &[&meter], arguments);
            (Some(RelayProcess::start(&config).await), None)
        }
        Between::Nobody => (None, Some(Arc::new(Sender::to(&meter).await))),
    };
    let duration = arguments.scale.steady();
    let journal = Arc::new(Journal::new(rate * duration.as_secs()));
    let reader = Reader::start(&meter, journal.clone()).await;
    let ledger = ledger::Watch::start(&backlog).await;
    let publisher = relay.as_ref().map(|relay| Process(relay.pid()));
    let processes = [publisher, Some(rig.postgres_process()), Some(meter.broker())];
    let before = processes.map(|process| process.map(Process::cpu));
    let source = Source { url: &backlog.database.url, insert: INSERT, sender };
    let seconds = write(&source, rate, &journal).await;
    reader.wait_all(&journal).await;
    let after = processes.map(|process| process.map(Process::cpu));
    if relay.is_some() {
        backlog.wait_settled_up_to(journal.last_id()).await;
        journal.settled(ledger.stop().await);
    }
    drop(reader);
    let peak_mib = publisher.map_or(f64::NAN, Process::peak_mib);
    if let Some(relay) = relay {
        let ended = relay.terminate().await;
        assert!(ended.success(), "the relay ended with {ended}");
    }
    meter.delete().await;
    // The first second is everybody's warm-up.
    let times = journal.times(rate as usize);
    let (consumed, replied) = (times.consumed(), times.after_reply());
    let (logged, settled) = (times.logged(), times.settled());
    let percent = |n: usize| match (after[n], before[n]) {
        (Some(after), Some(before)) => (after - before).0 / seconds * 100.0,
        _ => f64::NAN,
    };
    [
        journal.len() as f64 / seconds,
        consumed.p50,
        consumed.p99,
        consumed.p999,
        replied.p50,
        replied.p99,
        logged.p50,
        logged.p99,
        settled.p50,
        settled.p99,
        percent(0),
        percent(1),
        percent(2),
        peak_mib,
    ]
}

async fn measure_idle(rig: &Rig, arguments: &Arguments) -> [f64; IDLE_COLUMNS.len()] {
    let backlog = Backlog::empty(rig, USUAL_PAYLOAD).await;
    let meters = [Meter::kafka(rig).await, Meter::amqp(rig, Kind::Quorum).await];
    let config = relay::config(&backlog.relay_url, &[&meters[0], &meters[1]], arguments);
    let relay = RelayProcess::start(&config).await;
    tokio::time::sleep(IDLE_AFTER).await;
    let processes = [Process(relay.pid()), rig.postgres_process()];
    let before: [CpuSecs; 2] = processes.map(Process::cpu);
    let duration = 2 * arguments.scale.steady();
    tokio::time::sleep(duration).await;
    let after = processes.map(Process::cpu);
    let percent = |n: usize| (after[n] - before[n]).0 / duration.as_secs_f64() * 100.0;
    let line = [percent(0), percent(1), processes[0].peak_mib()];
    let ended = relay.terminate().await;
    assert!(ended.success(), "the relay ended with {ended}");
    for meter in meters {
        meter.delete().await;
    }
    line
}

fn notes() -> Vec<String> {
    [
        "Writer and consumer are one process with one clock. *consumed*: from the moment before COMMIT \
         is sent until the consumer has the message, so PostgreSQL's own commit (with its wait for \
         the disk) is part of it; *after reply*: from the commit's reply instead.",
        "*in the log*: until Kafka's LogAppendTime, known to a millisecond (half of one is added). \
         *settled*: until the row stands in the ledger, looked at every 10 ms.",
        "*Without a relay*: the writer sends each row itself once its commit has returned, with the same client and \
         settings. No relay can be sooner, and a crash between the two loses the message; so the difference is what \
         an outbox costs, and the rest is the machine's.",
        "All on the same cores: the writer's and the consumer's own work is in these times.",
    ]
    .map(str::to_owned)
    .into()
}
