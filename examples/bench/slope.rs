//! Whether a backlog leaves at the same rate from its first row to its last, also under an old snapshot,
//! and with dead rows at its head.

use std::time::Instant;

use crate::arguments::Arguments;
use crate::backlog::{Backlog, settle};
use crate::drain::{Drained, USUAL_PAYLOAD, drain_as_it_is};
use crate::figure::{Figures, Plot, Shape, Table, number};
use crate::meter::Meter;
use crate::queue::Kind;
use crate::relay;
use crate::rig::Rig;
use crate::support::relay::RelayStart;
use crate::support::session::Session;

/// Of the backlog, each with its own rate.
const PARTS: usize = 10;
const COLUMNS: [&str; PARTS + 2] = [
    "rows/s of all",
    "1st tenth",
    "2nd",
    "3rd",
    "4th",
    "5th",
    "6th",
    "7th",
    "8th",
    "9th",
    "10th",
    "last half ÷ first",
];
const START_COLUMNS: [&str; 3] = ["rows kept", "to READY s", "to the first new row s"];

/// What is in the relay's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hindrance {
    None,
    /// Somebody's transaction, older than the drain, keeps every dead row version of it.
    Snapshot,
    /// And a tenth of the rows was deleted before, which that transaction keeps as well.
    DeadHead,
}

pub(crate) async fn section(rig: &Rig, arguments: &Arguments) -> Figures {
    let rows = arguments.scale.slope_kafka_rows();
    let mut table = Table::new("Rate along the backlog, 300 B", "backlog", &COLUMNS);
    let mut start = Table::new("Start-up with settled rows kept", "target", &START_COLUMNS);
    let mut backlog = Backlog::load(rig, rows, USUAL_PAYLOAD).await;
    let kafka = [
        (Hindrance::None, "Kafka"),
        (Hindrance::Snapshot, "Kafka, a snapshot pinned"),
        // The last, because it deletes rows.
        (Hindrance::DeadHead, "Kafka, a snapshot pinned, 10 % dead rows at the head"),
    ];
    for (hindrance, name) in kafka {
        let mut drains = Vec::new();
        // Deleted once, rows are dead once.
        let runs = if hindrance == Hindrance::DeadHead { 1 } else { arguments.runs };
        for run in 1..=runs {
            let meter = Meter::kafka(rig).await;
            drains.push(measure(rig, &backlog, &meter, hindrance, arguments).await);
            if hindrance == Hindrance::None && run == runs {
                start.push("Kafka", &[start_again(&mut backlog, &meter, arguments).await]);
            }
            meter.delete().await;
        }
        push(&mut table, name, &drains);
    }
    let backlog = Backlog::load(rig, arguments.scale.slope_amqp_rows(), USUAL_PAYLOAD).await;
    let mut drains = Vec::new();
    for _ in 0..arguments.runs {
        let meter = Meter::amqp(rig, Kind::Quorum).await;
        drains.push(measure(rig, &backlog, &meter, Hindrance::None, arguments).await);
        meter.delete().await;
    }
    push(&mut table, "RabbitMQ quorum queue", &drains);
    let plots = vec![plot(&table)];
    Figures { tables: vec![table, start], plots, notes: notes() }
}

fn push(table: &mut Table, name: &str, drains: &[(Drained, u64)]) {
    let rows = drains.first().map_or(0, |&(_, rows)| rows);
    let lines: Vec<_> = drains.iter().map(line).collect();
    table.push(format!("{name}, {} rows", number(rows as f64)), &lines);
}

/// The drain, and how many rows it had.
async fn measure(
    rig: &Rig,
    backlog: &Backlog,
    meter: &Meter,
    hindrance: Hindrance,
    arguments: &Arguments,
) -> (Drained, u64) {
    backlog.forget().await;
    let holder = backlog.database.connect().await;
    let mut rows = backlog.rows;
    if hindrance != Hindrance::None {
        pin(&holder).await;
    }
    if hindrance == Hindrance::DeadHead {
        rows -= delete_head(backlog).await;
    }
    let mut drained = drain_as_it_is(rig, backlog, &[meter], rows, arguments).await;
    (drained.remove(0), rows)
}

/// Keeps everything that is there now, dead or not, until the session ends.
async fn pin(holder: &Session) {
    holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    holder.count("SELECT count(*) FROM outbox.ledger").await;
}

/// Deletes a tenth as the keeper does, who moves the floor; how many rows that were.
async fn delete_head(backlog: &Backlog) -> u64 {
    let rows = backlog.rows / PARTS as u64;
    let session = backlog.database.connect().await;
    // The guard lets nobody delete but the keeper.
    session
        .run(&format!(
            "SET session_replication_role = replica;
            DELETE FROM outbox.message WHERE id <= {rows};
            UPDATE outbox.meta SET floor = {rows} + 1"
        ))
        .await;
    settle(&session).await;
    rows
}

/// A relay that finds everything settled, and then one row more.
async fn start_again(
    backlog: &mut Backlog,
    meter: &Meter,
    arguments: &Arguments,
) -> [f64; START_COLUMNS.len()] {
    let session = backlog.database.connect().await;
    let there = meter.messages().await;
    let begun = Instant::now();
    let relay =
        RelayStart::new(&relay::config(&backlog.relay_url, &[meter], arguments)).ready().await;
    let ready = begun.elapsed().as_secs_f64();
    session.run("INSERT INTO outbox.message (topic, payload) VALUES ('order.placed', 'new')").await;
    while meter.messages().await == there {
        tokio::task::yield_now().await;
    }
    let first = begun.elapsed().as_secs_f64();
    let ended = relay.terminate().await;
    assert!(ended.success(), "the relay ended with {ended}");
    backlog.rows += 1;
    [backlog.rows as f64, ready, first]
}

fn line((drained, rows): &(Drained, u64)) -> [f64; COLUMNS.len()] {
    let parts = drained.curve.parts(*rows, PARTS as u64);
    let halves = drained.curve.parts(*rows, 2);
    let mut line = [f64::NAN; COLUMNS.len()];
    line[0] = drained.curve.rate(*rows);
    line[1..=PARTS].copy_from_slice(&parts);
    line[PARTS + 1] = halves[1] / halves[0];
    line
}

fn plot(table: &Table) -> Plot {
    let lines = table.rows.iter().map(|row| {
        let parts = row.cells[1..=PARTS].iter().enumerate();
        let points = parts.filter_map(|(n, cell)| Some(((n + 1) as f64 * 10.0, cell.median()?)));
        (row.name.clone(), points.collect())
    });
    Plot {
        name: "slope".into(),
        title: "Rate along the backlog".into(),
        x: "% of the backlog".into(),
        y: "rows/s".into(),
        shape: Shape::Lines(lines.collect()),
    }
}

fn notes() -> Vec<String> {
    vec![
        "The first tenth has the relay's connecting in it; that with dead rows is one run, because it \
         deletes them."
            .into(),
        "The pinned snapshot is a REPEATABLE READ transaction from before the drain; the dead rows were \
         deleted under it, so that no vacuum could remove them."
            .into(),
    ]
}
