//! What the parts can do without a relay: reading the table, a bare producer, a bare publisher, and
//! logical decoding.

use outbox_relay::config::default::DEFAULT_AMQP_WINDOW_MESSAGES_MAX;

use crate::arguments::Arguments;
use crate::backlog::Backlog;
use crate::drain::USUAL_PAYLOAD;
use crate::figure::{Figures, Table};
use crate::queue::Kind;
use crate::rig::Rig;

mod amqp;
mod decoding;
mod kafka;
mod read;

pub(crate) use kafka::PROPERTIES as PRODUCER_PROPERTIES;

pub(crate) const COLUMNS: [&str; 3] = ["rows/s", "client CPU s/100k", "server CPU s/100k"];

/// Messages that nobody counts. Whoever is measured first would find the brokers as they were
/// started: Java compiles what is busy, and costs twice as much until then.
const WARM_UP_KAFKA_ROWS: u64 = 1_000_000;
/// Of these each is a request of its own, as under a steady load: of the others some two thousand are one.
const WARM_UP_KAFKA_REQUESTS: u64 = 10_000;
const WARM_UP_AMQP_ROWS: u64 = 20_000;

/// Windows, and channels that share them.
const AMQP_WINDOWS: [(usize, usize); 6] =
    [(100, 1), (1_000, 1), (RELAY, 1), (2 * RELAY, 1), (RELAY, 2), (RELAY, 4)];
/// The relay's own default.
const RELAY: usize = DEFAULT_AMQP_WINDOW_MESSAGES_MAX;

/// Lets both brokers come to speed.
pub(crate) async fn warm_up(rig: &Rig) {
    kafka::measure(rig, WARM_UP_KAFKA_ROWS, kafka::RELAY_WINDOW).await;
    kafka::measure(rig, WARM_UP_KAFKA_REQUESTS, 1).await;
    for kind in [Kind::Classic, Kind::Quorum] {
        amqp::measure(rig, WARM_UP_AMQP_ROWS, kind, 1_000, 1).await;
    }
}

/// Rows a second, and CPU seconds for 100,000 of them: the client's and the broker's.
pub(crate) async fn bare_producer(rig: &Rig, rows: u64) -> [f64; COLUMNS.len()] {
    kafka::measure(rig, rows, kafka::RELAY_WINDOW).await
}

pub(crate) async fn section(rig: &Rig, arguments: &Arguments) -> Figures {
    let mut table = Table::new("One client, 300 B payloads", "what", &COLUMNS);
    let backlog =
        Backlog::load(rig, arguments.scale.kafka_rows(USUAL_PAYLOAD), USUAL_PAYLOAD).await;
    let runs = arguments.runs;
    for way in [read::Way::Copy, read::Way::Select] {
        let mut lines = Vec::new();
        for _ in 0..runs {
            lines.push(read::measure(rig, &backlog, way).await);
        }
        table.push(way.words(), &lines);
    }
    for window in [kafka::RELAY_WINDOW, kafka::WIDE_WINDOW] {
        let mut lines = Vec::new();
        for _ in 0..runs {
            lines.push(kafka::measure(rig, backlog.rows, window).await);
        }
        table.push(format!("librdkafka, acks=all, idempotent, window {window}"), &lines);
    }
    let rows = arguments.scale.amqp_rows(USUAL_PAYLOAD) / 2;
    for kind in [Kind::Classic, Kind::Quorum, Kind::Stream] {
        for (window, channels) in AMQP_WINDOWS {
            let mut lines = Vec::new();
            for _ in 0..runs {
                lines.push(amqp::measure(rig, rows, kind, window, channels).await);
            }
            let name = format!("lapin, confirms, {} queue, window {window}", kind.word());
            let several =
                if channels == 1 { String::new() } else { format!(", {channels} channels") };
            table.push(name + &several, &lines);
        }
    }
    let lines = decoding::measure(rig, backlog.rows / 4, runs).await;
    table.push("pg_recvlogical, pgoutput, transactions of 1,000", &lines);
    Figures {
        tables: vec![table],
        plots: Vec::new(),
        notes: vec![
            "Each alone, with nothing but its server: no limit here leaves the other parts of a \
             relay their share of the cores."
                .into(),
        ],
    }
}
