//! Negative controls: readers that are known to be wrong, under the same writer and judged by the
//! same checker. If the checker does not catch them, it proves nothing about the relay.

use std::collections::BTreeSet;

use tokio_postgres::Row;

use crate::support::checker::{Delivery, Report, check};
use crate::support::consumer::now_us;
use crate::support::content::{Content, headers_of};
use crate::support::database::Database;
use crate::support::rng::{Rng, seed};
use crate::support::session::Session;
use crate::support::writer::{Mix, Plan, Writer};

/// Rounds of writing until the mistake must have shown itself. One is nearly always enough.
const ROUNDS_MAX: usize = 10;
/// Messages a round.
const ROWS: usize = 2500;

/// What a reader read since the last look, in the order in which it would publish.
trait Reader {
    async fn read(&mut self, session: &Session) -> Vec<Row>;
}

/// `WHERE id > last`: what commits late is never read.
#[derive(Default)]
struct NaiveCursor {
    last: i64,
}

impl Reader for NaiveCursor {
    async fn read(&mut self, session: &Session) -> Vec<Row> {
        let sql = format!("{SELECT} WHERE id > $1 ORDER BY id LIMIT 2000");
        let rows = session.query(&sql, &[&self.last]).await.expect("the outbox can be read");
        self.last = rows.last().map_or(self.last, id);
        rows
    }
}

/// Holes and head in two statements, that is in two snapshots: a row that commits between them is
/// missed by the first, and a later one of its key is found by the second.
#[derive(Default)]
struct TwoStatements {
    highest: i64,
    holes: BTreeSet<i64>,
}

impl Reader for TwoStatements {
    async fn read(&mut self, session: &Session) -> Vec<Row> {
        let holes: Vec<i64> = self.holes.iter().copied().collect();
        let sql = format!("{SELECT} WHERE id = ANY($1) ORDER BY id LIMIT 2000");
        let mut rows = session.query(&sql, &[&holes]).await.expect("the outbox can be read");
        let sql = format!("{SELECT} WHERE id > $1 ORDER BY id LIMIT 2000");
        let head = session.query(&sql, &[&self.highest]).await.expect("the outbox can be read");
        rows.extend(head);
        if let Some(highest) = rows.last().map(id).filter(|&last| last > self.highest) {
            self.holes.extend(self.highest + 1..highest);
            self.highest = highest;
        }
        for row in &rows {
            self.holes.remove(&id(row));
        }
        rows
    }
}

/// Holes and head in one statement: what the two are measured against.
#[derive(Default)]
struct OneStatement(TwoStatements);

impl Reader for OneStatement {
    async fn read(&mut self, session: &Session) -> Vec<Row> {
        let holes: Vec<i64> = self.0.holes.iter().copied().collect();
        let sql = format!(
            "({SELECT} WHERE id = ANY($1) ORDER BY id LIMIT 2000) UNION ALL
             ({SELECT} WHERE id > $2 ORDER BY id LIMIT 2000) ORDER BY id LIMIT 2000"
        );
        let rows = session.query(&sql, &[&holes, &self.0.highest]).await;
        let rows = rows.expect("the outbox can be read");
        let highest = rows.last().map_or(self.0.highest, id).max(self.0.highest);
        self.0.holes.extend(self.0.highest + 1..highest);
        self.0.highest = highest;
        for row in &rows {
            self.0.holes.remove(&id(row));
        }
        rows
    }
}

const SELECT: &str =
    "SELECT id, message_id, topic, key, type, headers, payload FROM outbox.message";

fn id(row: &Row) -> i64 {
    row.get(0)
}

fn deliver(row: &Row) -> Delivery {
    let headers: Option<serde_json::Value> = row.get(5);
    let content = Content {
        topic: row.get(2),
        key: row.get(3),
        kind: row.get(4),
        payload: row.get(6),
        headers: headers.as_ref().map(headers_of).unwrap_or_default(),
    };
    Delivery {
        message_id: Some(row.get(1)),
        row_id: Some(row.get(0)),
        digest: content.digest(),
        resent: None,
        relay: None,
        received_at_us: now_us(),
    }
}

/// Reads under the hostile writer and until nothing more comes after it.
async fn judge(mut reader: impl Reader, seed: u64) -> Report {
    let database = Database::create().await;
    // Few keys: a mistake in order needs two rows of one key close together.
    let plan = Plan { keys: 8, mix: Mix { big: 0, ..Mix::hostile() }, ..Plan::hostile(seed, ROWS) };
    let session = database.connect().await;
    let mut writer = Writer::start(&database, &plan).await;
    let mut deliveries = Vec::new();
    while !writer.is_finished() {
        deliveries.extend(reader.read(&session).await.iter().map(deliver));
    }
    let journal = writer.finish().await;
    loop {
        let rows = reader.read(&session).await;
        if rows.is_empty() {
            break;
        }
        deliveries.extend(rows.iter().map(deliver));
    }
    let report = check(&journal, &deliveries);
    eprintln!("{}\n{}", Report::HEADING, report.row("control"));
    report
}

/// Judges fresh readers until one is caught.
async fn caught<R: Reader + Default>(is_caught: impl Fn(&Report) -> bool) -> Report {
    let mut rng = Rng::new(seed());
    let mut last = None;
    for _ in 0..ROUNDS_MAX {
        let report = judge(R::default(), rng.next()).await;
        assert!(report.phantom.is_empty() && report.duplicates == 0, "{report:?}");
        if is_caught(&report) {
            return report;
        }
        last = Some(report);
    }
    panic!("not caught in {ROUNDS_MAX} rounds; the last: {}", last.unwrap_or_default().row("-"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_naive_cursor_is_caught_losing_messages() {
    // GIVEN the hostile writer
    // WHEN a cursor reads only above the last id it saw
    // THEN the checker finds committed messages that it never read
    let report = caught::<NaiveCursor>(|report| !report.lost.is_empty()).await;
    assert!(!report.is_exact());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_two_statement_read_is_caught_out_of_order() {
    // GIVEN the hostile writer
    // WHEN holes and head are read in two statements
    // THEN nothing is lost, and the checker finds messages that overtook an earlier one of their key
    let report = caught::<TwoStatements>(|report| !report.reordered.is_empty()).await;
    assert!(report.lost.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_statement_read_is_not_blamed() {
    // GIVEN the hostile writer
    // WHEN holes and head are read in one statement, and no hole is ever given up
    // THEN the checker finds nothing: what it blames the others for is not its own mistake
    judge(OneStatement::default(), seed()).await.assert_exact("one statement");
}
