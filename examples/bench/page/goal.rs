//! The targets that the design sets, beside what was reached.

use crate::figure::{Cell, number};
use crate::section::{Name, Outcome};

/// A figure in a table of a section: the first row and the first column whose names begin so.
struct Place(Name, &'static str, &'static str, &'static str);

/// What is to be reached.
enum Goal {
    /// The place's figure, at least.
    AtLeast(f64, Place),
    /// The place's figure, at most.
    AtMost(f64, Place),
    /// The first figure, at least so many times the second.
    Times(f64, Place, Place),
}

use Goal::{AtLeast, AtMost, Times};

/// The tables' titles begin so.
const KAFKA: &str = "Into Kafka";
const AMQP: &str = "Into RabbitMQ";
const LIMITS: &str = "One client";
const STEADY: &str = "One row a commit";
const WRITERS: &str = "One row a transaction";
const CRASH: &str = "kill -9";
const PEERS: &str = "Draining";
const SLOPE: &str = "Rate along";

/// From COMMIT to the consumer: what the median is called, and its row.
const LATENCIES: [(&str, &str); 6] = [
    ("Commit → consumed, Kafka, 200/s, p50 ms", "Kafka, 200/s"),
    ("Commit → consumed, Kafka, 1,000/s, p50 ms", "Kafka, 1000/s"),
    ("Commit → consumed, classic queue, 200/s, p50 ms", "RabbitMQ classic queue, 200/s"),
    ("Commit → consumed, classic queue, 1,000/s, p50 ms", "RabbitMQ classic queue, 1000/s"),
    ("Commit → consumed, quorum queue, 200/s, p50 ms", "RabbitMQ quorum queue, 200/s"),
    ("Commit → consumed, quorum queue, 1,000/s, p50 ms", "RabbitMQ quorum queue, 1000/s"),
];

fn goals() -> Vec<(&'static str, Goal)> {
    use Name::{Crash, Drain, Limits, Peers, Slope, Steady, Writers};
    let peer = |row| Place(Peers, PEERS, row, "ours ÷");
    let amqp = |row| Place(Drain, AMQP, row, "rows/s");
    let bare = |row| Place(Limits, LIMITS, row, "rows/s");
    let time = |row, column| Place(Steady, STEADY, row, column);
    let mut goals = vec![
        (
            "Drain into Kafka, 300 B, rows/s",
            AtLeast(200_000.0, Place(Drain, KAFKA, "300 B", "rows/s")),
        ),
        ("… ÷ Debezium as it comes", AtLeast(5.0, peer("Debezium, defaults"))),
        ("… ÷ Debezium, tuned", AtLeast(5.0, peer("Debezium, tuned"))),
        ("… ÷ the poller with UPDATE", AtLeast(3.5, peer("SKIP LOCKED poller, UPDATE"))),
        ("… ÷ the poller with DELETE", AtLeast(3.5, peer("SKIP LOCKED poller, DELETE"))),
        ("Relay CPU into Kafka, s/100k", AtMost(0.4, Place(Drain, KAFKA, "300 B", "relay CPU"))),
        ("RSS at full drain, 300 B, MiB", AtMost(60.0, Place(Drain, KAFKA, "300 B", "relay peak"))),
        (
            "… into a classic queue",
            AtMost(60.0, Place(Drain, AMQP, "classic, 300 B", "relay peak")),
        ),
        ("… into a quorum queue", AtMost(60.0, Place(Drain, AMQP, "quorum, 300 B", "relay peak"))),
        (
            "Drain into a classic queue ÷ bare lapin at the same window",
            Times(0.9, amqp("classic, 300 B"), bare("lapin, confirms, classic queue, window 5000")),
        ),
        (
            "Drain into a quorum queue ÷ bare lapin at the same window",
            Times(0.9, amqp("quorum, 300 B"), bare("lapin, confirms, quorum queue, window 5000")),
        ),
    ];
    for (name, row) in LATENCIES {
        goals.push((name, AtMost(1.5, time(row, "consumed p50"))));
        goals.push(("… p99 ms", AtMost(5.0, time(row, "consumed p99"))));
    }
    goals.extend([
        ("Idle, % of a core", AtMost(0.5, Place(Steady, "Nothing to do", "", "relay CPU"))),
        (
            "8 writers with a relay, % of their tx/s without",
            AtLeast(95.0, Place(Writers, WRITERS, "8 writers, Kafka", "with, %")),
        ),
        (
            "… relay and broker on what is left of the cores",
            AtLeast(95.0, Place(Writers, WRITERS, "8 writers, Kafka, relay", "with, %")),
        ),
        (
            "32 writers with a relay, % of their tx/s without",
            AtLeast(95.0, Place(Writers, WRITERS, "32 writers, Kafka", "with, %")),
        ),
        (
            "… relay and broker on what is left of the cores",
            AtLeast(95.0, Place(Writers, WRITERS, "32 writers, Kafka, relay", "with, %")),
        ),
        (
            "Duplicates after kill -9, Kafka (in flight and unmarked: two windows)",
            AtMost(10_000.0, Place(Crash, CRASH, "Kafka", "duplicates")),
        ),
        (
            "Duplicates after kill -9, classic queue",
            AtMost(10_000.0, Place(Crash, CRASH, "RabbitMQ classic", "duplicates")),
        ),
        (
            "Last half of a backlog ÷ first",
            AtLeast(0.9, Place(Slope, SLOPE, "Kafka, ", "last half")),
        ),
        (
            "… with a snapshot pinned",
            AtLeast(0.9, Place(Slope, SLOPE, "Kafka, a snapshot pinned, ", "last half")),
        ),
    ]);
    goals
}

/// The table; empty if nothing of it was measured.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let rows: Vec<String> =
        goals().iter().filter_map(|(name, goal)| row(name, goal, outcomes)).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "\n## Against the targets\n\nThe medians of the tables below.\n\n\
         | target | to reach | reached | |\n|---|--:|--:|---|\n{}",
        rows.concat()
    )
}

fn row(name: &str, goal: &Goal, outcomes: &[Outcome]) -> Option<String> {
    let (reach, reached, met) = match goal {
        AtLeast(least, place) => {
            let value = place.find(outcomes)?;
            (format!("≥ {}", number(*least)), value, value >= *least)
        }
        AtMost(most, place) => {
            let value = place.find(outcomes)?;
            (format!("≤ {}", number(*most)), value, value <= *most)
        }
        Times(least, first, second) => {
            let value = first.find(outcomes)? / second.find(outcomes)?;
            (format!("≥ {}", number(*least)), value, value >= *least)
        }
    };
    let met = if met { "yes" } else { "**no**" };
    Some(format!("| {name} | {reach} | {} | {met} |\n", number(reached)))
}

impl Place {
    fn find(&self, outcomes: &[Outcome]) -> Option<f64> {
        let Self(section, title, row, column) = self;
        let outcome = outcomes.iter().find(|outcome| outcome.section == *section)?;
        let table = outcome.figures.tables.iter().find(|table| table.title.starts_with(title))?;
        let row = table.rows.iter().find(|found| found.name.starts_with(row))?;
        let column = table.columns.iter().position(|found| found.starts_with(column))?;
        row.cells.get(column).and_then(Cell::median)
    }
}
