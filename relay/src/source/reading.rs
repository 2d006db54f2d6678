//! The loop of a reader: what is due is read, handed on, and then it waits for the next reason to read.

mod hand_over;
mod holding;

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
use super::hole::Holes;
use super::lock::Locks;
use super::nap::Nap;
use super::pace::{LockPace, Pace};
use super::poll::Poll;
use super::retry::{Retry, RetryClock};
use super::statements::Statements;
use super::status::SourceStatus;
use super::{FromSource, Start};
use crate::cause::Cause;
use crate::config::SourceConfig;
use crate::database::{Session, describe, remedy};

/// A statement that fails again and again is made this rarely at last.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(5);

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

/// A reader at work.
pub(super) struct Reading {
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
    pub(super) fn begin(
        client: Session,
        limits: SourceConfig,
        statements: Statements,
        status: watch::Sender<SourceStatus>,
        start: Start,
        ports: Ports,
    ) -> Result<Self, ReadError> {
        let Statements { batch_rows, poll, retry, locks, holders } = statements;
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
    pub(super) async fn run(mut self) -> ReadError {
        let mut pause = self.limits.poll_interval_max;
        loop {
            match self.turn().await {
                Ok(()) => pause = self.limits.poll_interval_max,
                // Nothing was taken from the statement that failed, so it is simply made again.
                Err(ReadError::Busy(error)) => {
                    let hint = remedy(&error).map(std::borrow::Cow::into_owned);
                    let cause = Cause { reason: describe(&error), hint };
                    if self.status.borrow().busy.as_ref() != Some(&cause) {
                        let Cause { reason, hint } = &cause;
                        tracing::warn!(error = reason, hint, "reading waits");
                    }
                    self.show(|status| status.busy = Some(cause));
                    sleep(pause).await;
                    pause = (pause * 2).min(BUSY_PAUSE_MAX);
                }
                // Not in a read of rows, which are told from each other there.
                Err(ReadError::Row(failure)) => return failure.stopped().into(),
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
        let read = match self.client.deadline().answer(read).await? {
            // Boxed, since it is rare, and large.
            Err(ReadError::Row(_)) => {
                Box::pin(self.poll.read_apart(&self.client, hi, self.holes.open())).await?
            }
            read => read?,
        };
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
