//! The reader: one task on one connection that reads while there is room, and sleeps while there is
//! nothing to read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::bell::BellHandle;
use super::budget::{Budget, Reservation};
use super::column::ROW_COST_MAX;
use super::error::{ReadError, SourceError};
use super::guard::Guard;
use super::holder::Holders;
use super::hole::{Holes, Progress};
use super::lock::Locks;
use super::nap::Nap;
use super::pace::{LockPace, Pace};
use super::piece::{Fetch, Pieces};
use super::poll::{Meta, Poll, Read};
use super::retry::{Retry, RetryClock};
use super::statements::Statements;
use super::status::SourceStatus;
use super::{Batch, FromSource, RetryBatch, RetryRow, Row, Start};
use crate::config::SourceConfig;
use crate::database::Session;
use crate::schema::Schema;

/// A holder is named once it has kept holes open for this long,
const NAME_AFTER: Duration = Duration::from_secs(5);
/// and again as often as this: a night's batch job is news once, not seven thousand times.
const NAME_INTERVAL: Duration = Duration::from_secs(60);

/// Reads the outbox for one target. Built, then run.
pub struct Reader {
    client: Session,
    schema: Schema,
    target: String,
    limits: SourceConfig,
    statements: Option<Statements>,
    status: watch::Sender<SourceStatus>,
}

/// What connects a reader to its pipeline.
pub struct Ports {
    /// What the pipeline may hold in memory.
    pub budget: Arc<Budget>,
    /// The number of the last mark that was committed.
    pub marks: Arc<AtomicU64>,
    /// The process's doorbell.
    pub bell: BellHandle,
    /// Where everything that is read goes, in order.
    pub out: mpsc::Sender<FromSource>,
    /// Each value sent asks for a retry read that leaves out these ids: the heads in hand.
    pub retry: watch::Receiver<Vec<i64>>,
    /// While true the head is left alone, and holes and `retry` are served: `retry` is full.
    pub paused: Arc<AtomicBool>,
    /// Ends the reader.
    pub cancel: CancellationToken,
}

impl Reader {
    /// A reader on a connection that is used for nothing else, and given up with the reader.
    #[must_use]
    pub fn new(client: Session, schema: Schema, target: &str, limits: SourceConfig) -> Self {
        let (status, _) = watch::channel(SourceStatus::default());
        Self { client, schema, target: target.to_owned(), limits, statements: None, status }
    }

    /// Prepares what it will ask, before it is known where it starts; else `run` does.
    ///
    /// # Errors
    /// As `run`.
    pub async fn prepare(&mut self) -> Result<(), SourceError> {
        let Self { client, schema, target, limits, .. } = self;
        match Statements::prepare(client, schema, target, limits).await {
            Ok(statements) => self.statements = Some(statements),
            Err(error) => ended(error)?,
        }
        Ok(())
    }

    /// Waits until its connection has ended.
    ///
    /// Cancel safety: yes.
    pub async fn lost(&mut self) {
        self.client.ended().await;
    }

    /// What it shows of itself.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<SourceStatus> {
        self.status.subscribe()
    }

    /// Reads from `start` until it is cancelled or the pipeline has dropped its end.
    ///
    /// # Errors
    /// `Lost`: the pipeline starts anew. `Stopped`: a person must act first.
    ///
    /// Cancel safety: dropped (or cancelled) it loses only what lies in memory; its connection, on
    /// which a statement may be in progress, is of no further use.
    pub async fn run(self, start: Start, ports: Ports) -> Result<(), SourceError> {
        let cancel = ports.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(()),
            error = async {
                match Reading::begin(self, start, ports).await {
                    Ok(reading) => reading.run().await,
                    Err(error) => error,
                }
            } => ended(error),
        }
    }
}

fn ended(error: ReadError) -> Result<(), SourceError> {
    match error {
        ReadError::Ended(error) => Err(error),
        // Not even the preparation got through: no state is worth keeping.
        ReadError::Busy(error) => {
            Err(SourceError::Lost { what: "preparing to read".to_owned(), error: Some(error) })
        }
        ReadError::Closed => Ok(()),
    }
}

/// A reader at work.
struct Reading {
    client: Session,
    limits: SourceConfig,
    batch_rows: usize,
    poll: Poll,
    retry: Retry,
    locks: Locks,
    holders: Holders,
    holes: Holes,
    guard: Guard,
    pace: Pace,
    nap: Nap,
    lock_pace: LockPace,
    retry_clock: RetryClock,
    budget: Arc<Budget>,
    marks: Arc<AtomicU64>,
    paused: Arc<AtomicBool>,
    bell: BellHandle,
    out: mpsc::Sender<FromSource>,
    status: watch::Sender<SourceStatus>,
    /// A commit rang while it was asleep, and no read has been made since.
    rung: bool,
    /// The oldest holder, and when it is to be named next.
    suspect: Option<(String, Instant)>,
    /// What the pipeline was last told.
    told_caught_up: bool,
    /// The head at the start, and whether everything below it was read. `retry` is left alone until
    /// then: the flow serves it after the gaps of the start, and its rows would take their room.
    start_hi: i64,
    start_read: bool,
}

impl Reading {
    async fn begin(reader: Reader, start: Start, ports: Ports) -> Result<Self, ReadError> {
        let Reader { client, schema, target, limits, statements, status } = reader;
        let Statements { batch_rows, poll, retry, locks, holders } = match statements {
            Some(statements) => statements,
            None => Statements::prepare(&client, &schema, &target, &limits).await?,
        };
        let holes = holes_at(&start);
        let start_hi = holes.hi();
        Ok(Self {
            poll,
            retry,
            locks,
            holders,
            holes,
            guard: Guard::default(),
            pace: Pace::new(limits.poll_interval_min, limits.poll_interval_max),
            nap: Nap::new().map_err(no_timer)?,
            lock_pace: LockPace::new(Instant::now()),
            retry_clock: RetryClock::new(ports.retry),
            budget: ports.budget,
            marks: ports.marks,
            paused: ports.paused,
            bell: ports.bell,
            out: ports.out,
            status,
            rung: false,
            suspect: None,
            told_caught_up: false,
            start_hi,
            start_read: false,
            client,
            limits,
            batch_rows,
        })
    }

    /// Never ends but by an error.
    async fn run(mut self) -> ReadError {
        loop {
            match self.turn().await {
                Ok(()) => {}
                // Nothing was taken from the statement that failed, so it is simply made again.
                Err(ReadError::Busy(error)) => {
                    let said = error
                        .as_db_error()
                        .map_or_else(|| error.to_string(), |db| db.message().to_owned());
                    tracing::warn!(error = %said, "reading the outbox: busy, trying again");
                    self.show(|status| status.busy = Some(said));
                    sleep(self.limits.poll_interval_max).await;
                }
                Err(error) => return error,
            }
        }
    }

    /// A lock read if one is due, a retry read if one is due, a read; then sleep if it showed nothing.
    async fn turn(&mut self) -> Result<(), ReadError> {
        let now = Instant::now();
        if self.lock_pace.due(now, self.holes.wants_locks()) <= now {
            self.read_locks().await?;
        }
        let mut room = self.room().await;
        if self.start_read && self.retry_clock.is_due() {
            self.read_retry(room).await?;
            room = self.room().await;
        }

        let rung = std::mem::take(&mut self.rung);
        let (rings, armed) = (self.bell.rings(), self.bell.watch());
        let begun = Instant::now();
        let as_of = self.marks.load(Ordering::Acquire);
        // At `holes_max` the head is left alone, and the holes are served on.
        let stalled = self.is_full_of_holes() || self.paused.load(Ordering::Relaxed);
        let hi = if stalled { i64::MAX } else { self.holes.hi() };
        let read = self.poll.read(&self.client, hi, self.holes.open());
        let read = self.client.deadline().answer(read).await??;
        if let Err(error) = self.guard.check_file(read.file) {
            // It may say more precisely what was altered.
            self.read_locks().await?;
            return Err(error.into());
        }
        let rest = Pace::rest(begun.elapsed(), read.rows.len());
        let (cut, quiet) = (read.cut, read.rows.is_empty());
        let last = read.rows.last().map_or(0, |(row, _)| row.id);
        self.start_read |= !cut || last > self.start_hi;
        self.deliver(read, as_of, stalled, room).await?;

        let not_before = begun + rest;
        if quiet {
            self.pace.quiet();
            // A commit rang and there is nothing: rare, unless ids start again below the head.
            if rung {
                self.lock_pace.demand();
            }
            let asleep = armed.is_some_and(|armed| self.bell.still(armed));
            self.wait(asleep, not_before).await?;
            self.rung = asleep && self.bell.rings() != rings;
        } else {
            self.pace.busy();
        }
        if !cut && !rest.is_zero() {
            self.nap.until(not_before).await;
        }
        Ok(())
    }

    async fn room(&mut self) -> Reservation {
        let bytes = self.batch_rows * ROW_COST_MAX;
        if let Some(room) = self.budget.try_batch(self.batch_rows, bytes) {
            return room;
        }
        self.show(|status| status.full = true);
        let room = self.budget.batch(self.batch_rows, bytes).await;
        self.show(|status| status.full = false);
        room
    }

    /// Takes the read into account, and hands it on in pieces that the budget has room for.
    async fn deliver(
        &mut self,
        read: Read,
        as_of: u64,
        stalled: bool,
        room: Reservation,
    ) -> Result<(), ReadError> {
        let ids: Vec<i64> = read.rows.iter().map(|(row, _)| row.id).collect();
        let Progress { mut opened, mut dead } = self.holes.read(&ids, read.cut);
        if !opened.is_empty() {
            self.lock_pace.hasten();
        }
        room.keep(read.rows.len(), read.rows.iter().map(|(_, body)| body.cost_bytes()).sum());
        // Also while the head is left alone: of what was asked for, nothing was left out.
        let caught_up = !read.cut;
        self.show_read(caught_up && !stalled);
        if read.rows.is_empty() && dead.is_empty() && caught_up == self.told_caught_up {
            return Ok(());
        }
        self.told_caught_up = caught_up;
        let mut pieces = Pieces::new(read.rows);
        loop {
            let fetch = Fetch { client: &self.client, statement: &self.poll.payloads, more: &[] };
            let piece = pieces.next(&fetch, &self.budget).await?.unwrap_or_default();
            let batch = Batch {
                as_of,
                rows: piece.into_iter().map(row).collect::<Result<_, _>>()?,
                opened: std::mem::take(&mut opened),
                dead: std::mem::take(&mut dead),
                caught_up: caught_up && pieces.is_empty(),
            };
            self.out.send(FromSource::Batch(batch)).await.map_err(|_| ReadError::Closed)?;
            if pieces.is_empty() {
                return Ok(());
            }
        }
    }

    async fn read_retry(&mut self, room: Reservation) -> Result<(), ReadError> {
        let as_of = self.marks.load(Ordering::Acquire);
        let in_hand = self.retry_clock.take();
        let due = self.retry.read(&self.client, &in_hand);
        let due = self.client.deadline().answers(2, due).await??;
        self.retry_clock.done(due.next_due);
        let there = due.rows.iter().filter(|(_, body)| body.cost_bytes() > 0);
        room.keep(there.count(), due.rows.iter().map(|(_, body)| body.cost_bytes()).sum());
        let mut pieces = Pieces::new(due.rows);
        loop {
            let fetch = Fetch {
                client: &self.client,
                statement: &self.retry.payloads,
                more: &[&self.retry.target],
            };
            let piece = pieces.next(&fetch, &self.budget).await?.unwrap_or_default();
            let rows =
                piece.into_iter().map(|(row, message)| RetryRow { message, ..row }).collect();
            let batch = RetryBatch { as_of, rows, next_due: due.next_due };
            self.out.send(FromSource::Retry(batch)).await.map_err(|_| ReadError::Closed)?;
            if pieces.is_empty() {
                return Ok(());
            }
        }
    }

    async fn read_locks(&mut self) -> Result<(), ReadError> {
        let begun = Instant::now();
        let read = self.client.deadline().answer(self.locks.read(&self.client)).await??;
        self.guard.check(&read, self.holes.hi())?;
        let progress = self.holes.locks(&read.holders, read.last_value);
        self.lock_pace.done(Instant::now(), begun.elapsed(), progress);
        self.show(|status| status.last_value = read.last_value);
        self.name_holder().await
    }

    /// Names the transaction that keeps holes open, once it has done so for a while.
    async fn name_holder(&mut self) -> Result<(), ReadError> {
        let Some(oldest) = self.holes.oldest_holder() else {
            self.suspect = None;
            self.show(|status| status.holder = None);
            return Ok(());
        };
        let now = Instant::now();
        let at = match &self.suspect {
            Some((transaction, at)) if transaction == oldest => *at,
            _ => {
                self.suspect = Some((oldest.to_owned(), now + NAME_AFTER));
                self.show(|status| status.holder = None);
                now + NAME_AFTER
            }
        };
        let stalled = self.status.borrow().stalled;
        if now < at && !(stalled && self.status.borrow().holder.is_none()) {
            return Ok(());
        }
        let holder = self.holders.name(&self.client, oldest);
        let holder = self.client.deadline().answer(holder).await??;
        if let Some(holder) = &holder {
            let hole_ids = self.holes.open().ids_len();
            tracing::warn!(%holder, hole_ids, stalled, "a transaction keeps ids of the outbox open");
        }
        self.suspect = Some((oldest.to_owned(), now + NAME_INTERVAL));
        self.show(|status| status.holder = holder);
        Ok(())
    }

    /// Waits for whatever calls for a read: a commit, a retry, the next lock read, or mere time.
    async fn wait(&mut self, asleep: bool, not_before: Instant) -> Result<(), ReadError> {
        let now = Instant::now();
        let pause = if asleep {
            self.limits.idle_read_interval
        } else {
            if self.pace.may_sleep() {
                self.bell.idle();
            }
            self.pace.pause()
        };
        let mut deadline = now + pause;
        if self.holes.wants_locks() {
            deadline = deadline.min(self.lock_pace.due(now, true));
        }
        if self.start_read
            && let Some(due) = self.retry_clock.due()
        {
            deadline = deadline.min(due);
        }
        tokio::select! {
            () = self.bell.changed() => Ok(()),
            () = self.retry_clock.asked(), if self.start_read => Ok(()),
            () = self.nap.until(deadline.max(not_before)) => Ok(()),
            () = self.out.closed() => Err(ReadError::Closed),
        }
    }

    fn is_full_of_holes(&self) -> bool {
        self.holes.open().ranges_len() >= self.limits.holes_max
    }

    fn show_read(&self, caught_up: bool) {
        let open = self.holes.open();
        self.show(|status| {
            status.busy = None;
            status.hi = self.holes.hi();
            status.caught_up = caught_up;
            status.stalled = self.is_full_of_holes();
            status.hole_ranges = open.ranges_len();
            status.hole_ids = open.ids_len();
            status.oldest_hole = open.first().map(|range| range.start);
        });
    }

    fn show(&self, change: impl FnOnce(&mut SourceStatus)) {
        self.status.send_modify(change);
    }
}

/// The gaps of the ledger, and what it counts as settled without having seen it. What retention has
/// deleted among them is dead after one lock read.
fn holes_at(start: &Start) -> Holes {
    let mut holes = start.gaps();
    holes.union(&start.open);
    Holes::new(start.head() - 1, holes)
}

fn no_timer(error: std::io::Error) -> SourceError {
    SourceError::Lost { what: format!("no timer to be had: {error}"), error: None }
}

fn row((meta, message): (Meta, Option<crate::message::Message>)) -> Result<Row, SourceError> {
    let message = message.ok_or_else(|| SourceError::Lost {
        what: format!("message {} was deleted while it was being read", meta.id),
        error: None,
    })?;
    Ok(Row { message, held: meta.held })
}
