//! The keeper: one elected session a database, the only one that deletes messages.
//!
//! Retention moves the floor and deletes what every target has settled; the sweep looks for rows that
//! were wrongly given up. Each is a function that does one bounded transaction; the loop here decides
//! only when.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Error, Row};
use tokio_util::sync::CancellationToken;

use crate::cause::Cause;
use crate::config::{DatabaseConfig, RetentionConfig};
use crate::database::{DatabaseError, Deadline, Session, refuse_pooler};
use crate::keeper::horizon::Held;
use crate::keeper::meter::Meter;
use crate::keeper::retention::Round;
use crate::keeper::sweep::Position;
use crate::keeper::unrouted::Unrouted;
use crate::schema::{self, Schema};

pub(crate) mod backlog;
mod compact;
pub mod dead;
pub mod election;
pub(crate) mod floor;
pub mod horizon;
pub mod kept;
mod late;
mod meter;
mod newcomer;
pub mod retention;
pub mod sweep;
pub mod unrouted;
pub mod watermark;

/// `application_name` of the keeper's session.
pub const APPLICATION_NAME: &str = "outbox-relay keeper";

/// The sweep must find nothing: it may cost a hundredth of one backend, and never more than that.
const SWEEP_INTERVAL_MIN: Duration = Duration::from_secs(60);
const SWEEP_COST_FACTOR: u32 = 100;

/// What only the database knows is looked up about as often as Prometheus asks.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);

/// A round of retention is the longest piece: so many statements, each with a time-out of its own.
const PIECE_STATEMENTS: u32 = 20;

// A range of ids must be a range scan of the primary key, whatever the statistics say of a table that
// grows and shrinks by the hour; and compiling such statements costs more than running them.
pub(crate) const SCAN_SETTINGS: &str = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off";

// The guard of the table lets a DELETE pass only with the first.
const DELETE_SETTINGS: &str = "
SET LOCAL outbox_relay.keeper = 'on'; SET LOCAL enable_seqscan = off; SET LOCAL jit = off";

/// Everything the keeper needs; `run` does the work.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// Where the outbox lives.
    pub database: DatabaseConfig,
    /// Its schema.
    pub schema: Schema,
    /// How long settled rows are kept.
    pub retention: RetentionConfig,
    /// Dead ranges that one round of retention passes at most.
    pub dead_ranges_max: usize,
    /// The configured targets: nothing is deleted before each has a ledger.
    pub targets: Vec<String>,
    /// Somebody reads the metrics: what they need is looked up.
    pub is_metered: bool,
}

impl Keeper {
    /// Stands for election, keeps the outbox while elected, and begins anew when its session is lost.
    /// Ends only when `stop` is cancelled: no failure of the keeper is a reason to stop publishing.
    ///
    /// Cancel safety: dropping the future rolls back what is open and resigns.
    pub async fn run(&self, stop: CancellationToken) {
        if self.is_metered {
            meter::begin();
        }
        let work = async {
            loop {
                let Err(error) = self.serve().await;
                // Handled here: it is told, and the next session tries again.
                tracing::warn!(error = %Cause::of(&error), "the keeper lost its session");
                tokio::time::sleep(self.retention.interval).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    async fn serve(&self) -> Result<Infallible, DatabaseError> {
        refuse_pooler(&self.database, APPLICATION_NAME).await?;
        let mut session = Session::connect(&self.database, APPLICATION_NAME).await?;
        let deadline = session.deadline();
        deadline.answers(3, schema::refuse_misfit(&session, &self.schema)).await??;
        let client: &mut Client = &mut session;
        while !deadline.answer(election::stand(client, &self.schema)).await?? {
            tokio::time::sleep(self.retention.interval).await;
        }
        tracing::info!("elected as keeper");
        // A keeper that hangs (a stopped process) must not hold the lock for ever.
        let idle_ms = (self.retention.interval * 3 + Duration::from_secs(60)).as_millis();
        let setting = format!("SET idle_session_timeout = {idle_ms}");
        deadline.answer(client.batch_execute(&setting)).await??;
        self.keep(client, deadline).await
    }

    async fn keep(
        &self,
        client: &mut Client,
        deadline: Deadline,
    ) -> Result<Infallible, DatabaseError> {
        let mut meter = Meter::new();
        let mut unrouted = Unrouted::default();
        let mut look_at = Instant::now();
        let mut told = Held::Nothing;
        let mut kept = 0;
        let mut newcomer = None;
        // What the predecessor left is looked at once, whole, piece by piece.
        let mut position = Some(Position::default());
        while let Some(at) = position {
            let sweep = self.sweep(client, at, &meter);
            position = deadline.answers(PIECE_STATEMENTS, sweep).await??.0;
        }
        let mut sweep_at = Instant::now() + SWEEP_INTERVAL_MIN;
        loop {
            if Instant::now() >= look_at {
                if self.is_metered {
                    let look = meter::look(client, &self.schema);
                    match deadline.answers(PIECE_STATEMENTS, look).await? {
                        Ok(looks) => meter.looked(looks),
                        // Handled here: retention does not depend on what is shown of it.
                        Err(error) => {
                            tracing::warn!(%error, "the backlog was not counted for the metrics")
                        }
                    }
                }
                let look = unrouted.look(client, &self.schema);
                match deadline.answers(PIECE_STATEMENTS, look).await? {
                    Ok(topics) => meter.untaken(topics),
                    // Handled here: retention does not depend on it.
                    Err(error) => {
                        tracing::warn!(%error, "topics that no target takes were not looked for")
                    }
                }
                look_at = Instant::now() + LOOK_INTERVAL;
            }
            let found = newcomer::find(client, &self.schema, &self.targets);
            let found = deadline.answer(found).await??;
            if found != newcomer {
                if let Some(target) = &found {
                    tracing::warn!(target, "retention waits for a target that has no ledger yet");
                }
                newcomer = found;
            }
            if newcomer.is_some() {
                tokio::time::sleep(self.retention.interval).await;
                continue;
            }
            let round = self.retain(client, &mut told);
            let round = deadline.answers(PIECE_STATEMENTS, round).await??;
            meter.late(round.late);
            let piece = kept::piece(client, &self.schema, kept, self.retention.delete_rows_max);
            let piece = deadline.answers(PIECE_STATEMENTS, piece).await??;
            kept = piece.next.unwrap_or(0);
            meter.round(round.floor, round.deleted + piece.deleted, &round.held);
            let removed = self.remove_dead(client);
            let removed = deadline.answers(PIECE_STATEMENTS, removed).await??;
            if Instant::now() >= sweep_at {
                let sweep = self.sweep(client, position.unwrap_or_default(), &meter);
                let (next, cost) = deadline.answers(PIECE_STATEMENTS, sweep).await??;
                position = next;
                sweep_at = Instant::now() + SWEEP_INTERVAL_MIN.max(cost * SWEEP_COST_FACTOR);
            }
            // A piece that freed nothing is no reason to hurry: millions may be kept for a parked target.
            if !round.more && piece.deleted == 0 && removed == 0 {
                tokio::time::sleep(self.retention.interval).await;
            }
        }
    }

    async fn retain(&self, client: &mut Client, told: &mut Held) -> Result<Round, Error> {
        let round =
            retention::round(client, &self.schema, &self.retention, self.dead_ranges_max).await?;
        if round.floor > round.floor_before {
            tracing::debug!(
                floor = round.floor,
                deleted = round.deleted,
                kept = round.kept,
                "floor moved"
            );
        }
        if round.late > 0 {
            tracing::warn!(
                rows = round.late,
                below = round.floor,
                "late rows found by retention; they are delivered out of order"
            );
        }
        if round.held != *told {
            tell(&round.held);
            told.clone_from(&round.held);
        }
        Ok(round)
    }

    async fn remove_dead(&self, client: &mut Client) -> Result<u64, Error> {
        let Some(age) = self.retention.dead else { return Ok(0) };
        let rows = dead::piece(client, &self.schema, age, self.retention.delete_rows_max).await?;
        if rows > 0 {
            tracing::info!(rows, "dead messages removed, as [retention] dead says");
        }
        Ok(rows)
    }

    async fn sweep(
        &self,
        client: &mut Client,
        at: Position,
        meter: &Meter,
    ) -> Result<(Option<Position>, Duration), Error> {
        let begun = Instant::now();
        let piece = sweep::piece(client, &self.schema, at).await?;
        meter.late(piece.late);
        if piece.late > 0 {
            tracing::warn!(
                rows = piece.late,
                lowest_id = piece.lowest,
                "late rows found by the sweep; they are delivered out of order"
            );
        }
        Ok((piece.next, begun.elapsed()))
    }
}

/// What an operator should know of a floor that stands still; said once, when it changes.
fn tell(held: &Held) {
    match held {
        Held::IdentityWentBack { last_id, target } => tracing::error!(
            last_id,
            target,
            hint = "outbox-relay ledger rebuild",
            "retention stopped: the identity of the message table went back"
        ),
        Held::ClockWentBack { target } => tracing::warn!(
            target,
            "retention waits: a watermark lies in the future, the database's clock was set back"
        ),
        Held::DeadRanges { id } => {
            tracing::warn!(id, "retention stopped for this round at dead_ranges_max");
        }
        held => tracing::debug!(?held, "retention"),
    }
}

fn count(row: &Row, column: &str) -> u64 {
    u64::try_from(row.get::<_, i64>(column)).unwrap_or(0)
}
