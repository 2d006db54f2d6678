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
mod neighbour;
mod start;
mod steady;
mod tally;
mod trouble;
mod unrouted;
mod writer;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use error::PipelineError;
pub use neighbour::{Neighbour, Neighbours};

use crate::board::{Board, State};
use crate::cause::Cause;
use crate::config::{BrokerConfig, DatabaseConfig, LeaseConfig, SourceConfig, TargetConfig};
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
use trouble::Trouble;
use writer::{Farewell, write_marks};

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
    /// The other pipelines of this process with the same broker.
    pub neighbour: Neighbour,
    /// The broker has let it in once in this process. If it is refused later, the configuration may
    /// not be to blame (a password that is being rotated, a directory service that is away): it
    /// keeps the lead and tries again soon.
    pub proven: Arc<AtomicBool>,
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
            probes_aside: matches!(target.broker, BrokerConfig::Amqp(_)),
            confirm_timeout: target.confirm_timeout,
            straggler_after: target.straggler_after,
            stragglers_max: target.stragglers_max,
            unrouted: target.unrouted,
            waiting_rows_max: target.waiting_rows_max,
            row_bytes_max: self.source.row_bytes_max,
        }
    }
}

/// Supervises a pipeline for the life of the daemon: starts it, and starts it anew whenever it
/// loses the database or is refused, until `shutdown.stop`. `make` builds the target of one life.
///
/// # Errors
/// [`PipelineError::Configuration`], from one pipeline, if nothing at all can run: every pipeline of
/// this process was refused before one of them had found another place.
pub async fn supervise<T: Target + 'static>(
    context: Context,
    make: impl Fn(FenceName) -> T,
    shutdown: Shutdown,
) -> Result<(), PipelineError> {
    let name = context.target.name.clone();
    let mut jitter = crate::flow::Jitter::new(seed());
    let mut failures = 0;
    let mut told = Told::default();
    while !shutdown.stop.is_cancelled() {
        let began = Instant::now();
        // Handed over, or the end of the daemon: the loop knows.
        let Err(error) = run_once(&context, &make, &shutdown).await else { continue };
        // A life that lasted is no failure in a row.
        failures = if began.elapsed() > STOPPED_BACKOFF.max { 1 } else { failures + 1 };
        let (backoff, state) = match error {
            PipelineError::Lost(reason) => {
                let cause = Cause::from(reason);
                let Cause { reason, hint } = &cause;
                tracing::warn!(
                    target_name = name,
                    error = reason,
                    hint,
                    "pipeline lost the database, starting anew"
                );
                (LOST_BACKOFF, State::Waiting(cause))
            }
            PipelineError::Stopped { reason, hint } => {
                (STOPPED_BACKOFF, State::Stopped(Cause::new(reason, hint)))
            }
            PipelineError::Configuration { reason, hint } => {
                (STOPPED_BACKOFF, State::Refused(Cause::new(reason, hint)))
            }
        };
        told.say(&name, &state);
        context.board.set(&name, state);
        if let Some(Cause { reason, hint }) = context.board.nothing_can_run() {
            let hint = hint.unwrap_or_default();
            return Err(PipelineError::Configuration { reason, hint });
        }
        let pause = backoff.delay(failures, &mut jitter);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.stop.cancelled() => {}
        }
    }
    Ok(())
}

/// Without the database: a restart is over in a moment, and the sessions of a crowd are spread.
const LOST_BACKOFF: Backoff =
    Backoff { min: Duration::from_millis(50), max: Duration::from_secs(5) };

/// A stopped pipeline looks this often whether a person has mended what stopped it. Each look costs
/// the database some statements and a broker a refused login.
const STOPPED_BACKOFF: Backoff =
    Backoff { min: Duration::from_secs(1), max: Duration::from_secs(10) };

/// The same reason to stand still is said again after this long.
const TOLD_INTERVAL: Duration = Duration::from_secs(60);

/// What the log says of a pipeline that stands still: once a reason, and from time to time again.
#[derive(Default)]
struct Told(Option<(Cause, Instant)>);

impl Told {
    fn say(&mut self, name: &str, state: &State) {
        let (State::Stopped(cause) | State::Refused(cause)) = state else {
            self.0 = None;
            return;
        };
        let now = Instant::now();
        if let Some((told, at)) = &self.0
            && told == cause
            && now.duration_since(*at) < TOLD_INTERVAL
        {
            return;
        }
        let Cause { reason, hint } = cause;
        tracing::error!(
            target_name = name,
            reason,
            hint,
            "pipeline stopped, nothing is lost; it is tried again"
        );
        self.0 = Some((cause.clone(), now));
    }
}

/// A pipeline that is handed over has this long to finish what is in hand; then it is given up, and
/// the next leader sends it again.
const HAND_OVER_GRACE: Duration = Duration::from_secs(10);

/// One life: from the lock to its loss, to its being handed over, or to the end of the daemon.
async fn run_once<T: Target + 'static>(
    context: &Context,
    make: &impl Fn(FenceName) -> T,
    shutdown: &Shutdown,
) -> Result<(), PipelineError> {
    let Some((takeover, target)) = take_over(context, make, shutdown).await? else {
        return Ok(());
    };
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
        unrouted,
        retry_rows,
        led,
        broker,
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
    // On its own: neither its end nor its failure is that of the pipeline.
    let mut telling = JoinSet::new();
    if unrouted::is_wanted_now(&unrouted, &context.target.routes) {
        telling.spawn(unrouted::tell(context.clone()));
    }
    let begin =
        Begin { progress, takeover_id: predecessor_id, parked, past, routes_changed, unrouted };
    let flow = Flow::new(context.policy(), context.target.routes.clone().into(), begin, seed());
    let (feed, ports) = Feed::new(context, retry_rows);
    let meter = Meter::new(name, reader.status());
    let (mark_trouble, seen) = watch::channel(None);
    let trouble = Trouble::new(seen, reader.status());
    let (commands, command_queue) = mpsc::unbounded_channel();
    let (report_queue, reports) = mpsc::unbounded_channel();
    let (marks, mark_queue) = mpsc::channel(1);
    let last_mark = marks.clone();
    let (marked_queue, marked) = mpsc::unbounded_channel();

    let mut tasks = JoinSet::new();
    tasks.spawn(async move { Ok(reader.run(start, ports).await?) });
    let ping_interval = context.lease.ping_interval;
    let farewell = Farewell {
        schema: context.schema.clone(),
        name: name.clone(),
        board: context.board.clone(),
        stop: shutdown.stop.clone(),
    };
    let writing =
        write_marks(lease, marker, ping_interval, mark_queue, marked_queue, mark_trouble, farewell);
    tasks.spawn(writing);
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
        neighbour: context.neighbour.clone(),
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
        count_at: now,
        tally: Tally::new(name, now),
        meter,
        trouble,
        obstacle: None,
        broker,
        broker_news: None,
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
