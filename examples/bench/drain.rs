//! How fast a backlog leaves, and what that costs whom.

use crate::arguments::Arguments;
use crate::backlog::Backlog;
use crate::figure::{Figures, Plot, Shape, Table, number};
use crate::meter::Meter;
use crate::queue::Kind;
use crate::rig::Rig;
use crate::scale::Scale;

mod measure;

use measure::drain;
pub(crate) use measure::{Drained, drain_as_it_is};

/// Payloads of the tables, bytes.
const PAYLOADS: [usize; 4] = [300, 100, 2_000, 64_000];
/// What the other measurements carry.
pub(crate) const USUAL_PAYLOAD: usize = 300;

/// What is measured of a drain.
pub(crate) const COLUMNS: [&str; 7] = [
    "rows/s",
    "MB/s",
    "relay CPU s/100k",
    "PostgreSQL CPU s/100k",
    "broker CPU s/100k",
    "relay peak MiB",
    "WAL B/row",
];

pub(crate) async fn section(rig: &Rig, arguments: &Arguments) -> Figures {
    let mut kafka = Table::new("Into Kafka, 3 partitions", "payload", &COLUMNS);
    let mut amqp = Table::new("Into RabbitMQ", "queue and payload", &COLUMNS);
    let mut both = Table::new("Into both at once, 300 B", "target", &COLUMNS);
    for bytes in PAYLOADS {
        let backlog = Backlog::load(rig, arguments.scale.kafka_rows(bytes), bytes).await;
        let name = format!("{bytes} B, {} rows", number(backlog.rows as f64));
        kafka.push(name, &repeat(rig, &backlog, &[Sink::Kafka], arguments).await[0]);
        let backlog = Backlog::load(rig, arguments.scale.amqp_rows(bytes), bytes).await;
        for kind in [Kind::Classic, Kind::Quorum] {
            let name = format!("{}, {bytes} B, {} rows", kind.word(), number(backlog.rows as f64));
            amqp.push(name, &repeat(rig, &backlog, &[Sink::Amqp(kind)], arguments).await[0]);
        }
        if bytes == USUAL_PAYLOAD {
            let sinks = [Sink::Kafka, Sink::Amqp(Kind::Quorum)];
            let runs = repeat(rig, &backlog, &sinks, arguments).await;
            both.push(format!("Kafka, {} rows", number(backlog.rows as f64)), &runs[0]);
            both.push("RabbitMQ quorum queue, the same rows", &runs[1]);
        }
    }
    let plots = vec![bars(&kafka, "drain-kafka"), bars(&amqp, "drain-rabbitmq")];
    Figures { tables: vec![kafka, amqp, both], plots, notes: notes(arguments.scale) }
}

/// Where a drain goes.
#[derive(Debug, Clone, Copy)]
enum Sink {
    Kafka,
    Amqp(Kind),
}

/// The lines of every run, for each of the sinks.
async fn repeat(
    rig: &Rig,
    backlog: &Backlog,
    sinks: &[Sink],
    arguments: &Arguments,
) -> Vec<Vec<[f64; COLUMNS.len()]>> {
    let mut lines = vec![Vec::new(); sinks.len()];
    for _ in 0..arguments.runs {
        let mut meters = Vec::new();
        for sink in sinks {
            meters.push(match sink {
                Sink::Kafka => Meter::kafka(rig).await,
                Sink::Amqp(kind) => Meter::amqp(rig, *kind).await,
            });
        }
        let all: Vec<&Meter> = meters.iter().collect();
        for (lines, drained) in lines.iter_mut().zip(drain(rig, backlog, &all, arguments).await) {
            lines.push(drained.line(backlog));
        }
        for meter in meters {
            meter.delete().await;
        }
    }
    lines
}

fn bars(table: &Table, name: &str) -> Plot {
    let bar = |row: &crate::figure::Row| Some((row.name.clone(), row.cells[0].median()?));
    Plot {
        name: name.into(),
        title: table.title.clone(),
        x: "rows/s".into(),
        y: String::new(),
        shape: Shape::Bars(table.rows.iter().filter_map(bar).collect()),
    }
}

fn notes(scale: Scale) -> Vec<String> {
    let mut notes = vec![
        "The rows were written in transactions of 1,000, vacuumed and checkpointed; nobody reads \
         the topic or queue. Time counts from the last look that found nothing at the broker to the \
         first that found everything, a look every 25 ms; CPU from that first moment until the last \
         row is settled in the ledger."
            .to_owned(),
        "PostgreSQL's CPU is that of all its processes, the broker's that of its process.".to_owned(),
    ];
    if scale != Scale::Full {
        notes.push(
            "Fewer rows than 1 million or 2 GB where a run would take minutes; `--full` has them all."
                .to_owned(),
        );
    }
    notes
}
