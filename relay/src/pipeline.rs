//! One target's pipeline: joins the reader, the flow, the target and the ledger.
//!
//! Four tasks: the reader (its own connection), the target's driver, the lease's writer, and the
//! loop here, which feeds the pure flow with events and carries out its commands. They live and die
//! together: when one ends, everything in memory is void, and the pipeline starts anew from what
//! the database has.

mod driver;
mod error;
mod feed;
mod link;
mod meter;
mod proven;
mod start;
mod steady;
mod tally;
mod writer;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use error::PipelineError;
pub use proven::Proven;

use crate::board::{Board, State};
use crate::config::{DatabaseConfig, LeaseConfig, SourceConfig, TargetConfig};
use crate::flow::{Backoff, Begin, Flow, Policy};
use crate::ledger::progress::Progress;
use crate::membership::{Led, Member};
use crate::schema::Schema;
use crate::shutdown::Shutdown;
use crate::source::{BellHandle, Start};
use crate::target::Target;
use crate::target::fence::FenceName;
use driver::drive;
use feed::Feed;
use link::Link;
use meter::Meter;
use start::{Takeover, take_over};
use steady::Steady;
use tally::Tally;
use writer::write_marks;

/// What a pipeline is made of, apart from its target.
#[derive(Debug, Clone)]
pub struct Context {
    /// `[database]`
    pub database: DatabaseConfig,
    /// The schema that holds the outbox.
    pub schema: Schema,
    /// `[source]`
    pub source: SourceConfig,
    /// `[lease]`
    pub lease: LeaseConfig,
    /// `[target.NAME]`
    pub target: TargetConfig,
    /// Where it says what it is doing.
    pub board: Board,
    /// The doorbell of this process.
    pub bell: BellHandle,
    /// This process among the relays.
    pub member: Member,
    /// What has worked once in this process.
    pub proven: Arc<Proven>,
}

impl Context {
    fn session_name(&self, role: &str) -> String {
        start::session_name(&self.target.name, role)
    }

    fn policy(&self) -> Policy {
        let target = &self.target;
        Policy {
            order: target.order,
            on_poison: target.on_poison,
            window_messages_max: target.window_messages_max,
            window_bytes_max: target.window_bytes_max,
            attempts_max: target.attempts_max,
            retry_backoff: Backoff { min: target.retry_backoff_min, max: target.retry_backoff_max },
            probe_backoff: Backoff {
                min: target.retry_backoff_min,
                max: target.outage_backoff_max,
            },
            confirm_timeout: target.confirm_timeout,
            straggler_after: target.straggler_after,
            stragglers_max: target.stragglers_max,
            row_bytes_max: self.source.row_bytes_max,
        }
    }
}

/// Supervises a pipeline for the life of the daemon: starts it, and starts it anew whenever it
/// loses the database, until `shutdown.stop`. `make` builds the target of one life.
///
/// # Errors
/// Only what no restart of the pipeline can mend ([`PipelineError::Configuration`]).
pub async fn supervise<T: Target + 'static>(
    context: Context,
    make: impl Fn(FenceName) -> T,
    shutdown: Shutdown,
) -> Result<(), PipelineError> {
    let name = context.target.name.clone();
    let mut jitter = crate::flow::Jitter::new(seed());
    let backoff = Backoff { min: Duration::from_millis(50), max: Duration::from_secs(5) };
    let mut failures = 0;
    while !shutdown.stop.is_cancelled() {
        let began = Instant::now();
        // Handed over, or the end of the daemon: the loop knows.
        let Err(error) = run_once(&context, &make, &shutdown).await else { continue };
        // A life that lasted is no failure in a row.
        failures = if began.elapsed() > backoff.max { 1 } else { failures + 1 };
        let pause = match error {
            PipelineError::Configuration { .. } => return Err(error),
            PipelineError::Lost(reason) => {
                tracing::warn!(
                    target_name = name,
                    error = reason,
                    "pipeline lost the database, starting anew"
                );
                context.board.set(&name, State::Waiting(reason));
                backoff.delay(failures, &mut jitter)
            }
            PipelineError::Stopped { reason, hint } => {
                tracing::error!(
                    target_name = name,
                    reason,
                    hint,
                    "pipeline stopped, nothing is lost"
                );
                context.board.set(&name, State::Stopped(reason));
                STOPPED_PAUSE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.stop.cancelled() => {}
        }
    }
    Ok(())
}

/// A stopped pipeline looks this often whether somebody has mended what stopped it.
const STOPPED_PAUSE: Duration = Duration::from_secs(10);

/// A pipeline that is handed over has this long to finish what is in hand; then it is given up, and
/// the next leader sends it again.
const HAND_OVER_GRACE: Duration = Duration::from_secs(10);

/// One life: from the lock to its loss, to its being handed over, or to the end of the daemon.
async fn run_once<T: Target + 'static>(
    context: &Context,
    make: &impl Fn(FenceName) -> T,
    shutdown: &Shutdown,
) -> Result<(), PipelineError> {
    let takeover =
        take_over(context, make, shutdown).await.map_err(|error| context.proven.soften(error))?;
    let Some((takeover, target)) = takeover else { return Ok(()) };
    context.proven.database();
    let Takeover {
        lease,
        marker,
        reader,
        floor,
        settled,
        open,
        predecessor_id,
        parked,
        past,
        routes_changed,
        retry_rows,
        led,
    } = takeover;
    let name = &context.target.name;
    tracing::info!(
        target_name = name,
        pending_from = settled.last().map_or(1, |r| r.end),
        "leading"
    );
    let clock = lease.clock();
    let now = Instant::now();
    let start = Start { floor, settled, open };
    let mut progress = Progress::new(start.settled.clone(), start.open.clone());
    // The reader treats them as holes, and so does this.
    start.gaps().iter().for_each(|range| progress.opened(range));
    let begin = Begin { progress, takeover_id: predecessor_id, parked, past, routes_changed };
    let flow = Flow::new(context.policy(), context.target.routes.clone().into(), begin, seed());
    let (feed, ports) = Feed::new(context, retry_rows);
    let meter = Meter::new(name, reader.status());
    let (commands, command_queue) = mpsc::unbounded_channel();
    let (report_queue, reports) = mpsc::unbounded_channel();
    let (marks, mark_queue) = mpsc::channel(1);
    let last_mark = marks.clone();
    let (marked_queue, marked) = mpsc::unbounded_channel();

    let mut tasks = JoinSet::new();
    tasks.spawn(async move { Ok(reader.run(start, ports).await?) });
    let ping_interval = context.lease.ping_interval;
    let lock = (context.schema.clone(), name.clone());
    tasks.spawn(write_marks(lease, marker, ping_interval, mark_queue, marked_queue, lock));
    let life = Shutdown { stop: shutdown.stop.child_token(), abort: shutdown.abort.child_token() };
    // On its own: it must have disconnected before this life is over, whatever became of the others.
    let mut publishing = JoinSet::new();
    let blocked = Arc::new(AtomicBool::new(false));
    let lease_clock = clock.clone();
    publishing.spawn(drive(target, command_queue, report_queue, Arc::clone(&blocked), lease_clock));

    let steady = Steady {
        context,
        flow,
        feed,
        clock,
        link: Link::new(&context.target, now, seed()),
        commands,
        reports,
        marks,
        marked,
        blocked,
        was_blocked: false,
        heard_at: now,
        marking: false,
        marked_at: now,
        retry_at: now,
        tally: Tally::new(name, now),
        meter,
        obstacle: None,
    };
    let outcome = tokio::select! {
        outcome = steady.run(&mut tasks, &life) => outcome,
        () = end_when_handed_over(&led, &life) => unreachable!("it waits for the end of this life"),
    };
    let mut left = None;
    while let Some(ended) = publishing.join_next().await {
        match ended {
            Ok(target) => left = Some(target),
            Err(panic) => {
                // Before the marks end: a message may have ended it, and the writer would deny it.
                tasks.shutdown().await;
                return Err(PipelineError::Lost(format!("the target's task died: {panic}")));
            }
        }
    }
    // Only now is the lock let go: nothing unconfirmed is published any more, and what is confirmed is
    // settled. Without an answer the server frees it with the session.
    drop(last_mark);
    let released = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(context.lease.ttl, released).await.is_err() {
        tracing::debug!(target_name = name, "the database frees the lock by itself");
    }
    tasks.shutdown().await;
    drop(led);
    if let Some(target) = left {
        // The next leader works by now.
        target.farewell().await;
    }
    outcome
}

async fn end_when_handed_over(led: &Led, life: &Shutdown) {
    led.hand_over().await;
    life.stop.cancel();
    tokio::time::sleep(HAND_OVER_GRACE).await;
    life.abort.cancel();
    std::future::pending().await
}

fn seed() -> u64 {
    // Only spread is asked of it: two relays that lost the same database should not knock together.
    uuid::Uuid::new_v4().as_u64_pair().0
}
