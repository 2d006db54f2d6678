//! kill -9 in full drain: how many messages come twice, and how soon it goes on.

use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::backlog::Backlog;
use crate::census::Census;
use crate::curve::Curve;
use crate::drain::USUAL_PAYLOAD;
use crate::figure::{Figures, Table};
use crate::meter::Meter;
use crate::queue::Kind;
use crate::relay;
use crate::rig::Rig;
use crate::support::relay::RelayStart;

pub(crate) const COLUMNS: [&str; 4] = ["rows", "duplicates", "lost", "silence s"];

/// Between two looks for the first message after the crash.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

pub(crate) async fn section(rig: &Rig, arguments: &Arguments) -> Figures {
    let mut table = Table::new("kill -9 at half of the backlog, started again", "target", &COLUMNS);
    let kafka = Backlog::load(rig, arguments.scale.kafka_rows(USUAL_PAYLOAD), USUAL_PAYLOAD).await;
    let mut lines = Vec::new();
    for _ in 0..arguments.runs {
        lines.push(measure(&kafka, Meter::kafka(rig).await, arguments).await);
    }
    table.push("Kafka", &lines);
    let amqp = Backlog::load(rig, arguments.scale.amqp_rows(USUAL_PAYLOAD), USUAL_PAYLOAD).await;
    for kind in [Kind::Classic, Kind::Quorum] {
        let mut lines = Vec::new();
        for _ in 0..arguments.runs {
            lines.push(measure(&amqp, Meter::amqp(rig, kind).await, arguments).await);
        }
        table.push(format!("RabbitMQ {} queue", kind.word()), &lines);
    }
    Figures { tables: vec![table], plots: Vec::new(), notes: notes() }
}

async fn measure(backlog: &Backlog, meter: Meter, arguments: &Arguments) -> [f64; COLUMNS.len()] {
    backlog.forget().await;
    let config = relay::config(&backlog.relay_url, &[&meter], arguments);
    let relay = RelayStart::new(&config).ready().await;
    Curve::watch(&meter, backlog.rows / 2, || {}).await;
    relay.kill().await;
    // What was on the wire may still arrive, and is none of the successor's work.
    let before = quiet(&meter).await;
    let killed = Instant::now();
    let relay = RelayStart::new(&config).spawn();
    while meter.messages().await == before {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let silence = killed.elapsed();
    backlog.wait_settled(1).await;
    let ended = relay.terminate().await;
    assert!(ended.success(), "the relay ended with {ended}");
    let census = Census::take(&meter).await;
    meter.delete().await;
    [
        backlog.rows as f64,
        census.duplicates() as f64,
        backlog.rows as f64 - census.distinct as f64,
        silence.as_secs_f64(),
    ]
}

/// Waits until nothing comes any more; what is there then.
pub(crate) async fn quiet(meter: &Meter) -> u64 {
    let mut last = meter.messages().await;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = meter.messages().await;
        if now == last {
            return now;
        }
        last = now;
    }
}

fn notes() -> Vec<String> {
    vec![
        "Every message at the broker is read and its id compared: *duplicates* are messages more than \
         different ids, *lost* are rows whose id never came. A duplicate can only be a row that was in \
         flight or not yet marked: at most two windows (of 5,000 by default), and usually one and a few \
         milliseconds of confirmed rows. *silence*: from the start of the next relay (a crashed one is started again \
         at once) to its first message."
            .into(),
    ]
}
