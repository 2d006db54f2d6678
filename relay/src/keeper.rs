//! The keeper: one elected session a database, the only one that deletes messages.
//!
//! Retention moves the floor and deletes what every target has settled; the sweep looks for rows that
//! were wrongly given up. Each is a function that does one bounded transaction; the loop here decides
//! only when.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Error, Row};
use tokio_util::sync::CancellationToken;

use crate::admin::backend;
use crate::cause::Cause;
use crate::config::{DatabaseConfig, RetentionConfig};
use crate::database::{DatabaseError, Deadline, Session, describe, refuse_pooler};
use crate::keeper::horizon::Held;
use crate::keeper::meter::Meter;
use crate::keeper::retention::Round;
use crate::keeper::spared::Next;
use crate::keeper::sweep::Position;
use crate::keeper::trouble::Part;
use crate::keeper::work::Work;
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
mod spared;
pub mod sweep;
pub mod trouble;
pub mod watermark;
mod work;

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
            let mut told = None;
            loop {
                let begun = Instant::now();
                let Err(error) = self.serve().await;
                let error = Cause::of(&error).to_string();
                // Handled here: it is told (once, if no session comes about), and the next one tries again.
                if begun.elapsed() > self.retention.interval || told.as_ref() != Some(&error) {
                    tracing::warn!(error, "the keeper lost its session");
                    told = Some(error);
                }
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
        let mut told = false;
        while !deadline.answer(election::stand(client, &self.schema)).await?? {
            let intruders = backend::intruders(&*client, &self.schema, []);
            let intruders = deadline.answer(intruders).await??;
            if let Some(intruder) = intruders.first().filter(|_| !told) {
                let hint = intruder.remedy();
                tracing::error!(hint, "{intruder}: nothing is deleted meanwhile");
            }
            told = !intruders.is_empty();
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
        let mut work = Work::new(&self.retention);
        let mut look_at = Instant::now();
        let mut newcomer = None;
        // What the predecessor left is looked at once, whole, piece by piece.
        let mut position = Some(Position::default());
        while let Some(at) = position {
            let swept = deadline.answers(PIECE_STATEMENTS, self.sweep(client, at, &meter)).await?;
            match work.part(Part::Sweep, swept)? {
                Some((next, _)) => position = next,
                // From where it stands, with the other work in between.
                None => break,
            }
        }
        let mut sweep_at = Instant::now() + SWEEP_INTERVAL_MIN;
        loop {
            work.write(client, &self.schema, deadline, &meter).await?;
            if self.is_metered && Instant::now() >= look_at {
                let look = meter::look(client, &self.schema);
                match deadline.answers(PIECE_STATEMENTS, look).await? {
                    Ok(looks) => meter.looked(looks),
                    // Handled here: retention does not depend on what is shown of it.
                    Err(error) => {
                        let error = describe(&error);
                        tracing::warn!(error, "the backlog was not counted for the metrics")
                    }
                }
                look_at = Instant::now() + LOOK_INTERVAL;
            }
            let found = newcomer::find(client, &self.schema, &self.targets);
            let found = deadline.answer(found).await?;
            let Some(found) = work.part(Part::Newcomers, found)? else {
                tokio::time::sleep(self.retention.interval).await;
                continue;
            };
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
            let mut hurry = false;
            let round = self.retain(client, deadline, &mut work).await?;
            let piece = self.delete_kept(client, deadline, &mut work).await?;
            if let Some(round) = &round {
                meter.late(round.late);
                meter.round(round.floor, round.deleted + piece, &round.held);
                hurry = round.more;
            }
            let removed = self.remove_dead(client, deadline, &mut work).await?;
            if Instant::now() >= sweep_at {
                let sweep = self.sweep(client, position.unwrap_or_default(), &meter);
                let swept = deadline.answers(PIECE_STATEMENTS, sweep).await?;
                let mut pause = SWEEP_INTERVAL_MIN;
                if let Some((next, cost)) = work.part(Part::Sweep, swept)? {
                    position = next;
                    pause = pause.max(cost * SWEEP_COST_FACTOR);
                }
                sweep_at = Instant::now() + pause;
            }
            // A piece that freed nothing is no reason to hurry: millions may be kept for a parked target.
            if !hurry && piece == 0 && removed == 0 {
                work.write(client, &self.schema, deadline, &meter).await?;
                tokio::time::sleep(self.retention.interval).await;
            }
        }
    }

    /// A round of retention, around rows that the database refuses to delete: they are kept below the
    /// floor, as those are that a retry row needs.
    async fn retain(
        &self,
        client: &mut Client,
        deadline: Deadline,
        work: &mut Work,
    ) -> Result<Option<Round>, DatabaseError> {
        let schema = &self.schema;
        loop {
            let rows_max = work.retention.rows();
            let config = RetentionConfig { delete_rows_max: rows_max, ..self.retention.clone() };
            let spared = work.retention.ids();
            let round = retention::round(client, schema, &config, self.dead_ranges_max, &spared);
            match deadline.answers(PIECE_STATEMENTS, round).await? {
                Ok(round) => {
                    work.retention.went_well();
                    self.say(&round, &mut work.told);
                    // What was left out stands in `kept` now, and is that part's.
                    work.part::<()>(Part::Retention, Ok(()))?;
                    return Ok(Some(round));
                }
                Err(error) => match work.retention.failed(&error) {
                    Next::Fewer => {}
                    Next::Name => {
                        let next = deadline.answer(retention::next_id(client, schema)).await??;
                        match next.filter(|&id| work.retention.spare(id)) {
                            Some(id) => work.left_out(Part::Kept, &error, id),
                            None => return work.part(Part::Retention, Err(error)),
                        }
                    }
                    Next::Give => return work.part(Part::Retention, Err(error)),
                },
            }
        }
    }

    async fn delete_kept(
        &self,
        client: &mut Client,
        deadline: Deadline,
        work: &mut Work,
    ) -> Result<u64, DatabaseError> {
        let schema = &self.schema;
        loop {
            let (from, rows_max, spared) = (work.kept_from, work.kept.rows(), work.kept.ids());
            let piece = kept::piece(client, schema, from, rows_max, &spared);
            match deadline.answers(PIECE_STATEMENTS, piece).await? {
                Ok(piece) => {
                    work.kept.went_well();
                    work.kept_passed(&piece);
                    return Ok(piece.deleted);
                }
                Err(error) => match work.kept.failed(&error) {
                    Next::Fewer => {}
                    Next::Name => {
                        let next = kept::next_id(client, schema, from);
                        match deadline.answer(next).await??.filter(|&id| work.kept.spare(id)) {
                            Some(id) => work.left_out(Part::Kept, &error, id),
                            None => return Ok(work.part(Part::Kept, Err(error))?.unwrap_or(0)),
                        }
                    }
                    Next::Give => return Ok(work.part(Part::Kept, Err(error))?.unwrap_or(0)),
                },
            }
        }
    }

    fn say(&self, round: &Round, told: &mut Held) {
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
    }

    async fn remove_dead(
        &self,
        client: &mut Client,
        deadline: Deadline,
        work: &mut Work,
    ) -> Result<u64, DatabaseError> {
        let (Some(age), schema) = (self.retention.dead, &self.schema) else { return Ok(0) };
        loop {
            let spared = work.dead.ids();
            let piece = dead::piece(client, schema, age, work.dead.rows(), &spared);
            match deadline.answers(PIECE_STATEMENTS, piece).await? {
                Ok(rows) => {
                    work.dead.went_well();
                    if rows > 0 {
                        tracing::info!(rows, "dead messages removed, as [retention] dead says");
                    }
                    if spared.is_empty() {
                        work.part::<()>(Part::Dead, Ok(()))?;
                    }
                    return Ok(rows);
                }
                Err(error) => match work.dead.failed(&error) {
                    Next::Fewer => {}
                    Next::Name => {
                        let next = dead::next_id(client, schema, age, &spared);
                        match deadline.answer(next).await??.filter(|&id| work.dead.spare(id)) {
                            Some(id) => work.left_out(Part::Dead, &error, id),
                            None => return Ok(work.part(Part::Dead, Err(error))?.unwrap_or(0)),
                        }
                    }
                    Next::Give => return Ok(work.part(Part::Dead, Err(error))?.unwrap_or(0)),
                },
            }
        }
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

fn count(row: &Row, column: &str) -> Result<u64, Error> {
    Ok(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or(0))
}
