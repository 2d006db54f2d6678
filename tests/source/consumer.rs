//! The simplest pipeline there could be: takes what a reader sends, and settles it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use outbox_relay::config::{DatabaseConfig, SourceConfig, TlsConfig};
use outbox_relay::database;
use outbox_relay::range::RangeSet;
use outbox_relay::schema::Schema;
use outbox_relay::source::{
    Batch, Bell, BellHandle, Budget, FromSource, Ports, Reader, RetryBatch, Row, SourceError,
    SourceStatus, Start,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::database::Database;
use crate::support::patience::{until, wait_for};

pub(super) const TARGET: &str = "orders";

/// Never in a test: whoever waits for it has missed what should have woken it.
pub(super) const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn limits() -> SourceConfig {
    SourceConfig {
        batch_rows_max: 500,
        prefetch_rows_max: 10_000,
        prefetch_bytes_max: 64 << 20,
        row_bytes_max: 16 << 20,
        holes_max: 100_000,
        dead_ranges_max: 1_000_000,
        poll_interval_min: Duration::from_millis(1),
        poll_interval_max: Duration::from_millis(20),
        idle_read_interval: Duration::from_secs(1),
    }
}

pub(crate) fn config(url: String) -> DatabaseConfig {
    DatabaseConfig {
        url,
        password: None,
        schema: "outbox".to_owned(),
        tls: TlsConfig::default(),
        connect_timeout: Duration::from_secs(30),
        lock_timeout: Duration::from_millis(200),
        statement_timeout: Duration::from_secs(60),
    }
}

/// A reader at work, and everything that it was told or has said.
pub(super) struct Consumer {
    from: mpsc::Receiver<FromSource>,
    pub(super) budget: Arc<Budget>,
    pub(super) marks: Arc<AtomicU64>,
    pub(super) retry: watch::Sender<Vec<i64>>,
    pub(super) status: watch::Receiver<SourceStatus>,
    /// What the ledger would say: settled, and the open holes in it.
    pub(super) settled: RangeSet,
    pub(super) open: RangeSet,
    pub(super) dead: RangeSet,
    task: JoinSet<Result<(), SourceError>>,
    _cancel: DropGuard,
}

/// A process's bell, at work.
pub(super) struct Ringer {
    pub(super) handle: BellHandle,
    _task: JoinSet<()>,
}

impl Ringer {
    pub(super) fn hang(url: &str) -> Self {
        let (bell, handle) = Bell::new(config(url.to_owned()), Schema::default());
        let mut task = JoinSet::new();
        task.spawn(bell.run(CancellationToken::new()));
        Self { handle, _task: task }
    }
}

/// A bell that nobody serves: its readers poll.
pub(super) fn no_bell() -> BellHandle {
    Bell::new(config(String::new()), Schema::default()).1
}

impl Consumer {
    /// From the beginning, as a role with the relay's rights, without a bell.
    pub(super) async fn start(database: &Database, limits: SourceConfig) -> Self {
        let url = database.url_as(&database.create_relay().await);
        Self::start_as(&url, limits, no_bell(), Start { floor: 1, ..Start::default() }).await
    }

    pub(super) async fn start_as(
        url: &str,
        limits: SourceConfig,
        bell: BellHandle,
        start: Start,
    ) -> Self {
        let session = database::Session::connect(&config(url.to_owned()), "test reader")
            .await
            .expect("the relay's role may connect");
        let budget = Budget::new(limits.prefetch_rows_max, limits.prefetch_bytes_max);
        let marks = Arc::new(AtomicU64::new(0));
        let (retry, asked) = watch::channel(Vec::new());
        let (out, from) = mpsc::channel(4);
        let cancel = CancellationToken::new();
        let ports = Ports {
            budget: Arc::clone(&budget),
            marks: Arc::clone(&marks),
            bell,
            out,
            retry: asked,
            paused: Arc::new(AtomicBool::new(false)),
            cancel: cancel.clone(),
        };
        let (settled, open) = (start.settled.clone(), start.open.clone());
        let reader = Reader::new(session, Schema::default(), TARGET, limits);
        let status = reader.status();
        let mut task = JoinSet::new();
        task.spawn(reader.run(start, ports));
        Self {
            from,
            budget,
            marks,
            retry,
            status,
            settled,
            open,
            dead: RangeSet::new(),
            task,
            _cancel: cancel.drop_guard(),
        }
    }

    /// Where a reader that comes after this one begins.
    pub(super) fn successor(&self) -> Start {
        Start { floor: 1, settled: self.settled.clone(), open: self.open.clone() }
    }

    /// What comes next.
    async fn next(&mut self) -> FromSource {
        match wait_for("the reader", self.from.recv()).await {
            Some(next) => next,
            None => panic!("the reader ended: {:?}", self.task.join_next().await),
        }
    }

    /// The next read of the outbox: settled, and what it took of the budget released.
    pub(super) async fn batch(&mut self) -> Batch {
        let batch = self.batch_in_hand().await;
        self.release(&batch.rows);
        batch
    }

    /// The next read of the outbox, which stays in memory.
    pub(super) async fn batch_in_hand(&mut self) -> Batch {
        let batch = loop {
            match self.next().await {
                FromSource::Batch(batch) => break batch,
                FromSource::Retry(_) => {}
            }
        };
        for range in &batch.opened {
            assert!(
                self.settled.intersection(&range_set(range)).is_empty(),
                "{range:?} was settled"
            );
            self.settled.insert_range(range.clone());
            self.open.insert_range(range.clone());
        }
        for range in &batch.dead {
            self.open.remove_range(range.clone());
            self.dead.insert_range(range.clone());
        }
        let mut last = 0;
        for row in &batch.rows {
            let id = row.message.id();
            assert!(id > last, "{id} after {last} in one batch");
            last = id;
            assert!(self.open.contains(id) || !self.settled.contains(id), "{id} came twice");
            self.open.remove(id);
            self.settled.insert(id);
        }
        batch
    }

    pub(super) fn release(&self, rows: &[Row]) {
        self.budget.release(rows.len(), rows.iter().map(|row| row.message.cost_bytes()).sum());
    }

    /// The next read of `retry`.
    pub(super) async fn retry(&mut self) -> RetryBatch {
        loop {
            match self.next().await {
                FromSource::Batch(batch) => self.release(&batch.rows),
                FromSource::Retry(batch) => {
                    let there = batch.rows.iter().filter_map(|row| row.message.as_ref());
                    let bytes = there.clone().map(outbox_relay::message::Message::cost_bytes).sum();
                    self.budget.release(there.count(), bytes);
                    return batch;
                }
            }
        }
    }

    /// Reads on until `enough`, and returns the rows in the order in which they came.
    pub(super) async fn read_until(&mut self, mut enough: impl FnMut(&Self) -> bool) -> Vec<Row> {
        let mut rows = Vec::new();
        while !enough(self) {
            rows.extend(self.batch().await.rows);
        }
        rows
    }

    /// Reads `count` rows, and returns their ids.
    pub(super) async fn ids(&mut self, count: usize) -> Vec<i64> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.extend(self.batch().await.rows.iter().map(|row| row.message.id()));
        }
        ids
    }

    /// Waits until the status is as wanted.
    pub(super) async fn status(
        &mut self,
        wanted: impl FnMut(&SourceStatus) -> bool,
    ) -> SourceStatus {
        wait_for("the reader's status", self.status.wait_for(wanted))
            .await
            .expect("the reader has not ended")
            .clone()
    }

    /// A mark was committed.
    pub(super) fn mark(&self) -> u64 {
        self.marks.fetch_add(1, Ordering::Release) + 1
    }

    /// Waits until nothing is held in memory any more. (A read in progress has reserved room.)
    pub(super) async fn spent_all(&self) {
        let empty = async || (self.budget.used() == (0, 0)).then_some(());
        until("the budget to be free", empty).await;
    }

    /// Why the reader stopped. Takes everything that it still sends.
    pub(super) async fn stopped(mut self) -> String {
        while wait_for("the reader's end", self.from.recv()).await.is_some() {}
        match wait_for("the reader's end", self.task.join_next()).await {
            Some(Ok(Err(error @ SourceError::Stopped { .. }))) => error.to_string(),
            other => panic!("the reader did not stop: {other:?}"),
        }
    }
}

fn range_set(range: &std::ops::Range<i64>) -> RangeSet {
    std::iter::once(range.clone()).collect()
}
