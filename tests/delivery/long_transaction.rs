//! A transaction that stays open over thousands of ids that others have read past.

use serde_json::Value;

use crate::support::checker::Committed;
use crate::support::content::{Content, headers_of};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::progress::wait_settled;
use crate::support::relay::{RelayProcess, command};
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::Stage;

/// Ranges of open holes, each of two ids; between them one id that is committed.
const RANGES: usize = 25_000;

/// What becomes of the long transaction.
enum End {
    Commit,
    Rollback,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i3_fifty_thousand_open_holes_are_committed() {
    fifty_thousand_holes(End::Commit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i4_fifty_thousand_open_holes_are_rolled_back() {
    fifty_thousand_holes(End::Rollback).await;
}

async fn fifty_thousand_holes(end: End) {
    // GIVEN a transaction with 50,000 rows that is not committed, and rows of others among them
    let stage = Stage::new(Database::create().await).await.with_kafka(&Services::kafka()).await;
    let session = stage.session().await;
    let long = stage.session().await;
    interleave(&long, &session, RANGES).await;

    // WHEN the relay runs
    let relay = RelayProcess::start(&stage.config).await;

    // THEN the others' rows flow, and neither its memory nor its ledger grows with the holes
    stage.wait_received(RANGES).await;
    until("the others' rows to be settled", async || {
        let sent = "SELECT count(*) FROM outbox.message_state WHERE state = 'sent'";
        (session.count(sent).await == RANGES as i64).then_some(())
    })
    .await;
    let gaps = "SELECT max((SELECT count(*) FROM unnest(settled))) FROM outbox.ledger";
    let gaps = session.count(gaps).await;
    assert!(gaps < 500, "{gaps} gaps in the ledger");
    let peak = relay.memory().peak;
    assert!(peak < 256 << 20, "{peak} bytes");

    // WHEN the transaction ends
    let expected = match end {
        End::Commit => {
            long.run("COMMIT").await;
            3 * RANGES
        }
        End::Rollback => {
            long.run("ROLLBACK").await;
            RANGES
        }
    };

    // THEN what was committed has arrived in order, and no hole is left open
    stage.wait_received(expected).await;
    wait_settled(&session, 1).await;
    until("every hole to be closed", async || {
        let open = "SELECT count(*) FROM outbox.hole WHERE dead_at IS NULL";
        (session.count(open).await == 0).then_some(())
    })
    .await;
    assert!(relay.terminate().await.success());
    let journal = journal(&session).await;
    assert_eq!(journal.len(), expected);
    stage.assert_exact(&journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn above_holes_max_the_reader_stops_and_status_names_the_backend() {
    // GIVEN more ranges of open holes than the reader may remember
    let stage = Stage::new(Database::create().await).await.with_kafka(&Services::kafka()).await;
    let stage = stage.set("source", "holes_max", 100).set("source", "batch_rows_max", 50);
    let session = stage.session().await;
    let long = stage.session().await;
    interleave(&long, &session, 2000).await;
    let pid = long.count("SELECT pg_backend_pid()::bigint").await.to_string();

    // WHEN the relay runs into them
    let relay = RelayProcess::start(&stage.config).await;

    // THEN status says who keeps them open
    until("status to name the backend", async || {
        let status = command(&stage.config, &["status", "--json"]).await;
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        text.contains(&pid).then_some(())
    })
    .await;
    let beyond = "SELECT count(*) FROM outbox.message_state WHERE state = 'pending'";
    assert!(session.count(beyond).await > 0, "the reader went on");

    // WHEN the backend ends
    long.run("COMMIT").await;

    // THEN everything arrives in order
    stage.wait_received(3 * 2000).await;
    wait_settled(&session, 1).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&journal(&session).await).await;
}

/// Leaves `long` with an open transaction that holds two of every three ids; the third is committed
/// by `short`. The owner sets the ids, so that two statements do what would take as many round trips
/// as there are rows; the ids were drawn, as those of ordinary inserts are.
async fn interleave(long: &Session, short: &Session, ranges: usize) {
    let last = 3 * ranges;
    let insert = |name: &str, which: &str| {
        format!(
            "INSERT INTO outbox.message (id, topic, key, payload) OVERRIDING SYSTEM VALUE
             SELECT n, 'order.placed', '{name}-' || n % 10, convert_to(n::text, 'UTF8')
             FROM generate_series(1, {last}) AS n WHERE {which} ORDER BY n"
        )
    };
    let sequence = "pg_get_serial_sequence('outbox.message', 'id')";
    short.run(&format!("SELECT setval({sequence}, {last})")).await;
    long.run("BEGIN").await;
    long.run(&insert("long", "n % 3 <> 0")).await;
    short.run(&insert("short", "n % 3 = 0")).await;
}

/// The rows themselves: nothing deletes them here. Per key, each writer wrote in the order of ids.
async fn journal(session: &Session) -> Vec<Committed> {
    let sql = "SELECT id, message_id, topic, key, type, headers, payload FROM outbox.message";
    let rows = session.query(sql, &[]).await.expect("the outbox can be read");
    rows.iter()
        .map(|row| {
            let headers: Option<Value> = row.get(5);
            let content = Content {
                topic: row.get(2),
                key: row.get(3),
                kind: row.get(4),
                payload: row.get(6),
                headers: headers.as_ref().map(headers_of).unwrap_or_default(),
            };
            Committed {
                message_id: row.get(1),
                key: content.key.clone(),
                counter: Some(row.get(0)),
                digest: content.digest(),
                committed_at_us: None,
            }
        })
        .collect()
}
