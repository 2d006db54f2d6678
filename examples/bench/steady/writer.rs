//! Commits at a fixed rate, from several connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::dual_write::Sender;
use super::journal::Journal;
use crate::backlog::KEYS;
use crate::drain::USUAL_PAYLOAD;
use crate::support::consumer::now_us;
use crate::support::session::Session;

/// Commits a second that one connection is asked for: a third of what it can do where a commit waits
/// for the disk, so that it keeps to its schedule.
const CONNECTION_RATE: u64 = 300;
/// And not fewer than so many.
const CONNECTIONS_MIN: u64 = 2;
/// Digits of a row's number, at the beginning of its payload.
pub(super) const DIGITS: usize = 12;

/// Where rows are written.
pub(crate) struct Source<'a> {
    pub(crate) url: &'a str,
    /// Key and payload; returns an id.
    pub(crate) insert: &'a str,
    /// Who sends the row, if it is the writer itself.
    pub(crate) sender: Option<Arc<Sender>>,
}

/// Fills the journal; seconds that it took.
pub(crate) async fn write(source: &Source<'_>, rate: u64, journal: &Arc<Journal>) -> f64 {
    let connections = (rate / CONNECTION_RATE).max(CONNECTIONS_MIN);
    let mut sessions = Vec::new();
    for _ in 0..connections {
        let session = Session::connect(source.url).await;
        let insert = session.prepare(source.insert).await.expect("the outbox is there");
        sessions.push((session, insert));
    }
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for (n, (session, insert)) in sessions.into_iter().enumerate() {
        let numbers = (n..journal.len()).step_by(connections as usize);
        let schedule = Schedule { numbers, rate, begun };
        let sender = source.sender.clone();
        writers.spawn(connection(session, insert, schedule, sender, journal.clone()));
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer ends by itself");
    }
    begun.elapsed().as_secs_f64()
}

/// Which rows, and when.
struct Schedule<N> {
    numbers: N,
    rate: u64,
    begun: Instant,
}

/// Each row at its time, whatever became of the one before: a slow commit does not make the load less.
async fn connection(
    session: Session,
    insert: Statement,
    Schedule { numbers, rate, begun }: Schedule<impl Iterator<Item = usize>>,
    sender: Option<Arc<Sender>>,
    journal: Arc<Journal>,
) {
    for number in numbers {
        let due = begun + Duration::from_secs_f64(number as f64 / rate as f64);
        tokio::time::sleep_until(due.into()).await;
        let slot = journal.slot(number);
        let key = format!("customer-{}", number as u64 % KEYS);
        let mut payload = format!("{number:0DIGITS$}").into_bytes();
        payload.resize(USUAL_PAYLOAD, b'x');
        // One round trip for both.
        let values: [&(dyn ToSql + Sync); 2] = [&key, &payload];
        let begin = session.batch_execute("BEGIN");
        let (begin, row) = tokio::join!(begin, session.query_one(&insert, &values));
        begin.expect("a transaction begins");
        slot.id.store(row.expect("a row is inserted").get(0), Ordering::Relaxed);
        slot.commit_sent.store(now_us(), Ordering::Relaxed);
        session.batch_execute("COMMIT").await.expect("a transaction commits");
        slot.commit_replied.store(now_us(), Ordering::Relaxed);
        if let Some(sender) = &sender {
            sender.send(&key, &payload).await;
        }
    }
}
