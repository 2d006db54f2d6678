//! The reader's side of a pipeline: what it may hold, what it is told, what comes from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Context, PipelineError};
use crate::config::Unrouted;
use crate::crash;
use crate::flow::{FreshRead, FreshRow, RetryRow, Room};
use crate::ledger::{Class, Mark};
use crate::message::Message;
use crate::route::Router;
use crate::source::{Batch, Budget, FromSource, Ports, RetryBatch};

/// Reads that wait for the flow. The budget bounds the rows; this only lets the reader work ahead.
const BATCHES_AHEAD: usize = 4;

/// The reader as the loop sees it.
pub(super) struct Feed {
    budget: Arc<Budget>,
    /// The number of the last committed mark: what a read that begins from now on will have seen.
    marks: Arc<AtomicU64>,
    batches: mpsc::Receiver<FromSource>,
    /// Asks for a read of `retry`, without these heads.
    retry: watch::Sender<Vec<i64>>,
    router: Router,
    unrouted: Unrouted,
    /// Rows in `retry`: at the start, and counted along.
    retry_rows: u64,
    retry_rows_max: u64,
    /// `retry` is full: the reader leaves the head alone.
    paused: Arc<AtomicBool>,
    /// The highest id that came: a lower one is a hole that arrived.
    last_id: i64,
    /// Dropped with the feed: the reader ends.
    cancel: CancellationToken,
}

/// A read, with the route of each row.
pub(super) enum Fed {
    /// With what stands in the way of the row behind it, if anything does: nothing more is read.
    Fresh(FreshRead, Option<PipelineError>),
    Retry {
        rows: Vec<RetryRow>,
        as_of: u64,
    },
}

impl Feed {
    pub(super) fn new(context: &Context, retry_rows: u64) -> (Self, Ports) {
        let source = &context.source;
        let budget = Budget::new(source.prefetch_rows_max, source.prefetch_bytes_max);
        let marks = Arc::new(AtomicU64::new(0));
        let (out, batches) = mpsc::channel(BATCHES_AHEAD);
        let (retry, asked) = watch::channel(Vec::new());
        let cancel = CancellationToken::new();
        let paused = Arc::new(AtomicBool::new(false));
        let ports = Ports {
            budget: Arc::clone(&budget),
            marks: Arc::clone(&marks),
            bell: context.bell.clone(),
            out,
            retry: asked,
            paused: Arc::clone(&paused),
            cancel: cancel.clone(),
        };
        let feed = Self {
            budget,
            marks,
            batches,
            retry,
            router: Router::new(context.target.routes.clone()),
            unrouted: context.target.unrouted,
            retry_rows,
            retry_rows_max: context.target.retry_rows_max,
            paused,
            last_id: 0,
            cancel,
        };
        feed.pause_if_full();
        (feed, ports)
    }

    /// The next read; `None` when the reader has ended.
    ///
    /// Cancel safety: a read is either still to come or returned.
    pub(super) async fn next(&mut self) -> Option<Fed> {
        Some(match self.batches.recv().await? {
            FromSource::Batch(batch) => self.fresh(batch),
            FromSource::Retry(batch) => self.retry(batch),
        })
    }

    fn fresh(&mut self, batch: Batch) -> Fed {
        let Batch { as_of, rows, opened, dead, caught_up } = batch;
        if rows.first().is_some_and(|row| row.message.id() < self.last_id) {
            crash::point(crash::HOLE_ARRIVED);
        }
        self.last_id = rows.last().map_or(self.last_id, |row| row.message.id().max(self.last_id));
        let mut fresh = Vec::with_capacity(rows.len());
        for row in rows {
            let route = self.route(&row.message);
            if route.is_none() && self.unrouted == Unrouted::Stop {
                // The rows before it are sent; what this read knew of holes is read again.
                let read = FreshRead { as_of, rows: fresh, opened, dead: vec![], caught_up: false };
                return Fed::Fresh(read, Some(unrouted(&row.message)));
            }
            fresh.push(FreshRow { message: row.message, route, held: row.held });
        }
        Fed::Fresh(FreshRead { as_of, rows: fresh, opened, dead, caught_up }, None)
    }

    /// A row that cannot be read is not settled as filtered, whatever is left of its topic: it is
    /// buried with the reason.
    fn route(&self, message: &Message) -> Option<usize> {
        let route = self.router.route(message);
        route.or_else(|| message.unreadable_reason().and(Some(0)))
    }

    fn retry(&mut self, batch: RetryBatch) -> Fed {
        let route = |row: crate::source::RetryRow| RetryRow {
            route: row.message.as_ref().and_then(|message| self.route(message)),
            id: row.id,
            message: row.message,
            key: row.key,
            holds: row.holds,
            attempts: row.attempts,
            replay: row.replay,
            parked: row.destination.map(Into::into),
            sent: row.sent,
            poison: row.class == Class::Poison.as_str(),
            late: row.class == Class::Late.as_str(),
            head: row.head,
        };
        Fed::Retry { rows: batch.rows.into_iter().map(route).collect(), as_of: batch.as_of }
    }

    /// Gives memory back to the reader.
    pub(super) fn release(&self, room: Room) {
        if room.rows > 0 {
            self.budget.release(room.rows, room.bytes);
        }
    }

    /// A mark was committed: returns its number.
    pub(super) fn marked(&mut self, mark: &Mark) -> u64 {
        let grown = self.retry_rows.saturating_add_signed(mark.retry_growth);
        self.retry_rows = mark.retry_rows.unwrap_or(grown);
        self.pause_if_full();
        self.marks.fetch_add(1, Ordering::Release) + 1
    }

    /// Rows in `retry`, and whether they are too many.
    pub(super) fn retry_rows(&self) -> (u64, bool) {
        (self.retry_rows, self.retry_rows >= self.retry_rows_max)
    }

    fn pause_if_full(&self) {
        let (_, full) = self.retry_rows();
        if self.paused.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!(
                    retry_rows = self.retry_rows,
                    hint = "mend what refuses the messages, or raise retry_rows_max",
                    "retry is full: nothing new is read, what stands in it is served"
                );
            } else {
                tracing::info!(retry_rows = self.retry_rows, "retry has room again");
            }
        }
    }

    /// Asks for a read of `retry`, without the rows in hand.
    pub(super) fn ask_retry(&self, in_hand: Vec<i64>) {
        self.retry.send_replace(in_hand);
    }

    /// No more reads.
    pub(super) fn stop(&self) {
        self.cancel.cancel();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn unrouted(message: &Message) -> PipelineError {
    PipelineError::stopped(
        format!("no route takes the row {} of topic {:?}", message.id(), message.topic()),
        "add a route for the topic, or set unrouted = \"settle\" to let such rows pass",
    )
}
