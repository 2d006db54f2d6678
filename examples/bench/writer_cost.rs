//! What the relay costs those who write: transactions a second with and without it.

use std::process::Stdio;

use tokio::process::Command;

use crate::arguments::Arguments;
use crate::backlog::Backlog;
use crate::drain::USUAL_PAYLOAD;
use crate::figure::{Figures, Table};
use crate::meter::Meter;
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

pub(crate) async fn section(rig: &Rig, arguments: &Arguments) -> Figures {
    let mut table =
        Table::new("One row a transaction, as fast as it goes", "writers and target", &COLUMNS);
    for writers in WRITERS {
        for (sink, name) in [(Sink::Kafka, "Kafka"), (Sink::Quorum, "RabbitMQ quorum queue")] {
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
                lines.push(with_relay(rig, sink, writers, without, arguments).await);
            }
            table.push(format!("{writers} writers, {name}"), &lines);
        }
    }
    Figures { tables: vec![table], plots: Vec::new(), notes: notes() }
}

async fn with_relay(
    rig: &Rig,
    sink: Sink,
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
    let before = processes.map(Process::cpu);
    let with = pgbench(rig, &backlog.database, writers, arguments).await;
    let relayed = meter.messages().await;
    let after = processes.map(Process::cpu);
    let ended = relay.terminate().await;
    assert!(ended.success(), "the relay ended with {ended}");
    meter.delete().await;
    let seconds = arguments.scale.writing().as_secs_f64();
    let percent = |n: usize| (after[n] - before[n]).0 / seconds * 100.0;
    [without, with, with / without * 100.0, percent(0), percent(1), relayed as f64 / seconds]
}

/// Transactions a second of PostgreSQL's own load generator.
async fn pgbench(rig: &Rig, database: &Database, writers: usize, arguments: &Arguments) -> f64 {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let script = folder.path().join("insert.sql");
    std::fs::write(&script, script_text()).expect("a script can be written");
    let seconds = arguments.scale.writing().as_secs().to_string();
    let mut command = Command::new(format!("{}/pgbench", rig.postgres.fact("BIN")));
    command
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--time", &seconds])
        .args(["--client", &writers.to_string(), "--file"])
        .arg(&script)
        .arg(&database.url)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.expect("pgbench can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "pgbench: {errors}");
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
    tps.and_then(|tps| tps.parse().ok()).unwrap_or_else(|| panic!("pgbench said no tps: {text}"))
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
    ]
}
