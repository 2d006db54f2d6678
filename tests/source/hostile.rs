//! The hostile writer against the reader itself: nothing lost, invented or reordered.

use outbox_relay::source::{Row, Start};

use super::consumer::{Consumer, Ringer, limits};
use crate::support::checker::{Delivery, check};
use crate::support::consumer::now_us;
use crate::support::content::{Content, headers_of};
use crate::support::database::Database;
use crate::support::rng::seed;
use crate::support::services::Services;
use crate::support::writer::{Mix, Plan, Writer};

const ROWS: usize = 8_000;

fn deliver(row: &Row) -> Delivery {
    let message = &row.message;
    let headers = message.headers().map(|text| serde_json::from_str(text).expect("jsonb is JSON"));
    let content = Content {
        topic: message.topic().to_owned(),
        key: message.key().map(str::to_owned),
        kind: message.kind().map(str::to_owned),
        payload: message.payload().map(<[u8]>::to_vec),
        headers: headers.as_ref().map(headers_of).unwrap_or_default(),
    };
    Delivery {
        message_id: Some(message.message_id()),
        row_id: Some(message.id()),
        digest: content.digest(),
        resent: None,
        relay: None,
        received_at_us: now_us(),
    }
}

/// Reads under a hostile writer, with a reader that is replaced by a successor again and again.
async fn read_under(server: &str, mix: Mix) {
    let database = Database::create_on(server).await;
    let seed = seed();
    let plan = Plan { keys: 8, mix, ..Plan::hostile(seed, ROWS) };
    let url = database.url_as(&database.create_relay().await);
    let ringer = Ringer::hang(&url);
    let start = Start { floor: 1, ..Start::default() };
    let mut consumer = Consumer::start_as(&url, limits(), ringer.handle.clone(), start).await;
    let mut writer = Writer::start(&database, &plan).await;
    let mut deliveries = Vec::new();
    let mut restart_at = 500;
    while !writer.is_finished() {
        deliveries.extend(consumer.batch().await.rows.iter().map(deliver));
        if deliveries.len() >= restart_at {
            restart_at += 500;
            // What it has sent and nobody took is read again by the successor.
            let start = consumer.successor();
            drop(consumer);
            consumer = Consumer::start_as(&url, limits(), ringer.handle.clone(), start).await;
        }
    }
    let journal = writer.finish().await;
    // Everything drawn is settled in the end: read, or proved dead. A last row shows the last holes.
    let session = database.connect().await;
    let last =
        session.count("INSERT INTO outbox.message (topic) VALUES ('last') RETURNING id").await;
    let rest = consumer
        .read_until(|consumer| consumer.open.is_empty() && consumer.settled.contains(last))
        .await;
    deliveries.extend(rest.iter().filter(|row| row.message.id() != last).map(deliver));
    let report = check(&journal, &deliveries);
    report.assert_exact(&format!("reader (SEED={seed})"));
    assert!(report.committed >= ROWS);
    assert_eq!(report.duplicates, 0);
    assert_eq!(consumer.settled.ranges_len(), 1, "{:?}", consumer.settled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i2_i3_a_hostile_writer_loses_invents_and_reorders_nothing() {
    read_under(&Services::postgres(), Mix { big: 0, ..Mix::hostile() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i2_i3_a_hostile_writer_that_commits_in_two_phases_loses_invents_and_reorders_nothing() {
    read_under(&Services::postgres_two_phase(), Mix { big: 0, ..Mix::hostile_two_phase() }).await;
}
