//! What the relay costs those who write: transactions a second with and without it.

use crate::arguments::Arguments;
use crate::backlog::Backlog;
use crate::drain::USUAL_PAYLOAD;
use crate::figure::{Figures, Table};
use crate::meter::Meter;
use crate::pgbench::Load;
use crate::queue::Kind;
use crate::relay;
use crate::rig::Rig;
use crate::support::database::Database;
use crate::support::relay::RelayProcess;
use crate::usage::Process;

/// Connections that write at once.
const WRITERS: [usize; 2] = [8, 32];
const COLUMNS: [&str; 6] = [
    "tx/s without",
    "tx/s with",
    "with, % of without",
    "relay CPU %",
    "broker CPU %",
    "rows/s relayed",
];

/// Of the tables: who relays.
#[derive(Debug, Clone, Copy)]
enum Sink {
    Kafka,
    Quorum,
}

/// Who gets a core that several want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    /// Everybody the same.
    Fair,
    /// Relay and broker get what the writers and their server leave, as if they had cores of their own.
    Leftover,
}

/// What is measured of each number of writers.
const WAYS: [(Sink, Share, &str); 4] = [
    (Sink::Kafka, Share::Fair, "Kafka"),
    (Sink::Quorum, Share::Fair, "RabbitMQ quorum queue"),
    (Sink::Kafka, Share::Leftover, "Kafka, relay and broker on what is left of the cores"),
    (Sink::Quorum, Share::Leftover, "RabbitMQ quorum queue, the same"),
];

pub(crate) async fn section(rig: &Rig, arguments: &Arguments) -> Figures {
    let mut table =
        Table::new("One row a transaction, as fast as it goes", "writers and target", &COLUMNS);
    for writers in WRITERS {
        for (sink, share, name) in WAYS {
            let mut lines = Vec::new();
            // In turns: what else happens on the machine happens to both.
            for _ in 0..arguments.runs {
                let without = pgbench(
                    rig,
                    &Backlog::empty(rig, USUAL_PAYLOAD).await.database,
                    writers,
                    arguments,
                )
                .await;
                lines.push(with_relay(rig, (sink, share), writers, without, arguments).await);
            }
            table.push(format!("{writers} writers, {name}"), &lines);
        }
    }
    Figures { tables: vec![table], plots: Vec::new(), notes: notes() }
}

async fn with_relay(
    rig: &Rig,
    (sink, share): (Sink, Share),
    writers: usize,
    without: f64,
    arguments: &Arguments,
) -> [f64; COLUMNS.len()] {
    let backlog = Backlog::empty(rig, USUAL_PAYLOAD).await;
    let meter = match sink {
        Sink::Kafka => Meter::kafka(rig).await,
        Sink::Quorum => Meter::amqp(rig, Kind::Quorum).await,
    };
    let relay = RelayProcess::start(&relay::config(&backlog.relay_url, &[&meter], arguments)).await;
    let processes = [Process(relay.pid()), meter.broker()];
    if share == Share::Leftover {
        processes.into_iter().for_each(Process::wait_for_others);
    }
    let before = processes.map(Process::cpu);
    let with = pgbench(rig, &backlog.database, writers, arguments).await;
    let relayed = meter.messages().await;
    let after = processes.map(Process::cpu);
    processes.into_iter().for_each(Process::be_like_others);
    let ended = relay.terminate().await;
    assert!(ended.success(), "the relay ended with {ended}");
    meter.delete().await;
    let seconds = arguments.scale.writing().as_secs_f64();
    let percent = |n: usize| (after[n] - before[n]).0 / seconds * 100.0;
    [without, with, with / without * 100.0, percent(0), percent(1), relayed as f64 / seconds]
}

async fn pgbench(rig: &Rig, database: &Database, clients: usize, arguments: &Arguments) -> f64 {
    let (url, time) = (&database.url, arguments.scale.writing());
    Load { url, script: &script_text(), clients, time, rate: None }.rate(rig).await
}

fn script_text() -> String {
    format!(
        "\\set customer random(1, 1000)\n\
         INSERT INTO outbox.message (topic, key, type, payload) VALUES \
         ('order.placed', 'customer-' || :customer, 'OrderPlaced', \
         convert_to(repeat('x', {USUAL_PAYLOAD}), 'UTF8'));\n"
    )
}

fn notes() -> Vec<String> {
    vec![
        "`pgbench` with one INSERT into the outbox a transaction and nothing else, the doorbell \
         installed in both cases: the most that a relay can be felt. Writers, PostgreSQL, relay and \
         broker share the same cores, so what the broker's work takes is in the difference as well."
            .into(),
        "*On what is left*: relay and broker run with the scheduling policy SCHED_IDLE, so that the \
         difference is what the relay does in the database (its statements, its locks, the doorbell) \
         and not who else wants a core. Rows that they do not come to meanwhile wait."
            .into(),
    ]
}
