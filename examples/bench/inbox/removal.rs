//! Removing a day that has expired, while claims go on.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use outbox_inbox::maintenance::{Settings, maintain};
use outbox_inbox::schema::Schema;

use super::place::{FRESH, Place, fresh};
use crate::arguments::Arguments;
use crate::figure::Table;
use crate::pgbench::{Load, Made};
use crate::rig::Rig;

const COLUMNS: [&str; 5] =
    ["rows", "seconds", "WAL MB", "claim p99 ms before", "claim p99 ms meanwhile"];

/// Claims a second.
const RATE: u32 = 400;
/// Claims that are made before the removal begins.
const BEFORE: Duration = Duration::from_secs(3);
/// What the removal leaves behind is felt until then.
const AFTER: Duration = Duration::from_secs(1);
/// Of the day that goes.
const DAYS_AGO: i32 = 10;
const RETENTION_DAYS: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As the maintenance does.
    Detach,
    /// As a table without partitions would have to.
    Delete,
}

pub(super) async fn table(rig: &Rig, arguments: &Arguments) -> Table {
    let mut table = Table::new("Removing an expired day under load", "how", &COLUMNS);
    for (way, name) in [
        (Way::Detach, "DETACH CONCURRENTLY and DROP (`inbox maintain`)"),
        (Way::Delete, "DELETE in batches, then VACUUM"),
    ] {
        let mut lines = Vec::new();
        for _ in 0..arguments.runs {
            lines.push(measure(rig, arguments, way).await);
        }
        table.push(name, &lines);
    }
    table
}

async fn measure(rig: &Rig, arguments: &Arguments, way: Way) -> [f64; COLUMNS.len()] {
    let rows = arguments.scale.inbox_rows();
    let place = Place::create(rig).await;
    place.fill(DAYS_AGO, rows).await;
    // The first run raises the horizon, and the day goes with the next one.
    let settings = Settings { retention_days: RETENTION_DAYS, ..Settings::default() };
    if way == Way::Detach {
        let run = maintain(&place.session, &Schema::default(), &settings).await;
        assert!(
            run.expect("the inbox can be maintained").is_some_and(|run| run.dropped.is_empty())
        );
    }
    let script = format!("{FRESH}SELECT outbox.inbox_claim('bench', {});\n", fresh());
    let url = place.database.url.clone();
    let time = BEFORE + arguments.scale.writing() + AFTER;
    let load = Load { url: &url, script: &script, clients: 8, time, rate: Some(RATE) };
    let removal = async {
        tokio::time::sleep(BEFORE).await;
        let (begun, began_us, wal) = (Instant::now(), now_us(), wal_bytes(&place).await);
        match way {
            Way::Detach => {
                let run = maintain(&place.session, &Schema::default(), &settings).await;
                let run = run.expect("the inbox can be maintained").expect("nobody else is at it");
                // The empty days around it go as well.
                assert!(!run.dropped.is_empty(), "{run:?}");
            }
            Way::Delete => delete(&place).await,
        }
        let mb = (wal_bytes(&place).await - wal) as f64 / 1e6;
        (begun.elapsed().as_secs_f64(), mb, began_us)
    };
    let (made, (seconds, mb, began_us)) = tokio::join!(load.transactions(rig), removal);
    let ended_us = began_us + ((seconds + AFTER.as_secs_f64()) * 1e6) as u64;
    let p99 = |from: u64, to: u64| percentile_ms(&made, from, to);
    [rows as f64, seconds, mb, p99(0, began_us), p99(began_us, ended_us)]
}

async fn delete(place: &Place) {
    let batch = format!(
        "DELETE FROM outbox.inbox WHERE (bucket, message_id) IN (SELECT bucket, message_id FROM outbox.inbox
         WHERE bucket = (now() AT TIME ZONE 'UTC')::date - {DAYS_AGO} LIMIT 10000)"
    );
    while place.session.execute(&batch, &[]).await.expect("rows can be deleted") > 0 {}
    place.session.run("VACUUM outbox.inbox").await;
}

/// Written by the claims as well.
async fn wal_bytes(place: &Place) -> i64 {
    place.session.count("SELECT (pg_current_wal_lsn() - '0/0')::bigint").await
}

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// Of the transactions that ended between these times.
fn percentile_ms(made: &[Made], from: u64, to: u64) -> f64 {
    let within = made.iter().filter(|made| (from..to).contains(&made.at_us));
    let mut took: Vec<u64> = within.map(|made| made.took_us).collect();
    took.sort_unstable();
    let at = took.len() * 99 / 100;
    took.get(at.min(took.len().saturating_sub(1))).map_or(f64::NAN, |&us| us as f64 / 1e3)
}
