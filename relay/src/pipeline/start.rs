//! How a pipeline takes its target over: sessions on one server, the lock, the ledger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::{Context, PipelineError, unrouted};
use crate::admin;
use crate::admin::target::LedgerRow;
use crate::board::State;
use crate::broker::Broker;
use crate::cause::Cause;
use crate::database::{DatabaseError, Session, refuse_pooler};
use crate::flow::{KnownUnrouted, Past};
use crate::lease::Lease;
use crate::ledger::aside::{Aside, COUNTED_ROWS, PROMOTED_KEYS, RELEASED_ROWS};
use crate::ledger::mark::{Marker, Statements};
use crate::membership::Led;
use crate::range::RangeSet;
use crate::route::{Canonical, wait};
use crate::schema::identity::{self, Stamp};
use crate::schema::{self, PLACE_HINT, Place, Schema};
use crate::shutdown::Shutdown;
use crate::source::{Reader, restarted};
use crate::target::Target;
use crate::target::fence::FenceName;

/// What a pipeline begins with.
pub(super) struct Takeover {
    pub(super) lease: Lease,
    pub(super) marker: Marker,
    pub(super) reader: Reader,
    pub(super) floor: i64,
    pub(super) settled: RangeSet,
    pub(super) open: RangeSet,
    /// The highest id drawn so far, if a predecessor may have sent anything.
    pub(super) predecessor_id: Option<i64>,
    /// Destinations that rows of `retry` wait for.
    pub(super) parked: Vec<String>,
    /// How the lives before this one ended.
    pub(super) past: Past,
    /// No run has acted yet on the routes that this one has.
    pub(super) routes_changed: bool,
    /// What earlier lives, and those before with the same routes, settled unsent.
    pub(super) unrouted: Vec<KnownUnrouted>,
    /// Rows in `retry`.
    pub(super) retry_rows: u64,
    /// This process leads it.
    pub(super) led: Led,
    /// Where the settled messages went, if that is known.
    pub(super) broker: Option<Broker>,
}

/// Waits for the lock and reads where the target stands; `None` if the daemon stops meanwhile. `make` builds the
/// target, which stands by as long as another relay leads.
pub(super) async fn take_over<T: Target>(
    context: &Context,
    make: impl Fn(FenceName) -> T,
    shutdown: &Shutdown,
) -> Result<Option<(Takeover, T)>, PipelineError> {
    let mut target = None;
    let begun = async {
        let won = shutdown.stop.run_until_cancelled(win(context, make, &mut target)).await;
        let Some(won) = won.transpose()? else { return Ok(None) };
        // From here on it is a life, and one that is given up counts as one that crashed.
        shutdown.abort.run_until_cancelled(begin(context, won)).await.transpose()
    };
    let begun = begun.await;
    match (begun, target) {
        (Ok(Some(takeover)), Some(target)) => Ok(Some((takeover, target))),
        (begun, Some(target)) => {
            target.farewell().await;
            begun.map(|_| None)
        }
        (begun, None) => begun.map(|_| None),
    }
}

/// A pipeline that holds its lock.
struct Won {
    lease: Lease,
    ready: Ready,
    known: Known,
    ledger: LedgerRow,
    led: Led,
}

/// What is made ready before there is a lock.
struct Ready {
    reader: Reader,
    /// The marker's.
    statements: Statements,
    aside: Aside,
    outbox_id: Uuid,
}

/// What the database says before the life begins.
struct Known {
    /// `None`: the target is new.
    ledger: Option<LedgerRow>,
    stamp: Stamp,
    /// The stamp of the identity that the ledger was written for.
    kept: Option<String>,
    /// The statement for [`OUTBOX`].
    outbox: String,
}

/// Nothing is in hand meanwhile: dropping the future costs nothing, wherever it waits. What can be done before the
/// lock is: a leader that goes is missed until its successor has read, connected and published.
async fn win<T: Target>(
    context: &Context,
    make: impl Fn(FenceName) -> T,
    target: &mut Option<T>,
) -> Result<Won, PipelineError> {
    let name = &context.target.name;
    refuse_pooler(&context.database, &context.session_name("start")).await?;
    let freed = Arc::new(Notify::new());
    let notice = Arc::clone(&freed);
    let session_name = context.session_name("lease");
    let session =
        Session::connect_notified(&context.database, &session_name, move |_| notice.notify_one());
    let session = session.await?;
    let deadline = session.deadline();
    deadline.answers(4, schema::refuse_misfit(&session, &context.schema)).await??;
    deadline.answers(2, refuse_copy(&session, &context.schema)).await??;
    let reader = Session::connect(&context.database, &context.session_name("reader")).await?;
    if reader.identity().await? != session.identity().await? {
        let reason = "the address showed two servers: connecting anew";
        return Err(PipelineError::Lost(reason.into()));
    }
    let text = context.schema.sql(OUTBOX_ID);
    let outbox_id: Uuid = deadline.answer(session.query_one(&text, &[])).await??.try_get(0)?;
    let limits = context.source.clone();
    let mut reader = Reader::new(reader, context.schema.clone(), name, limits);
    reader.prepare().await?;
    let statements = Statements::prepare(&session, &context.schema).await?;
    let aside = Aside::prepare(&session, &context.schema).await?;
    let mut ready = Ready { reader, statements, aside, outbox_id };
    let target = target.insert(make(FenceName::new(outbox_id, name)));
    let standby = Notify::new();
    let (mut lease, mut known) = tokio::select! {
        locked = lock(context, session, &freed, &standby) => locked?,
        // Only once there is somebody to wait for: else it would be begun, and dropped at once.
        never = async { standby.notified().await; target.stand_by().await } => match never {},
        () = ready.reader.lost() => {
            return Err(PipelineError::Lost("the reader's session ended".into()));
        }
    };
    let led = context.member.lead(name);
    let ledger = match known.ledger.take() {
        Some(ledger) => ledger,
        None => {
            let (session, start) = (lease.session_mut(), context.target.start);
            let made = Box::pin(admin::target::ensure(session, &context.schema, name, start));
            let made = deadline.answers(8, made).await??;
            let sends_from = made.settled.last().map_or(1, |range| range.end);
            tracing::info!(target_name = name, sends_from, "the target is new");
            made
        }
    };
    Ok(Won { lease, ready, known, ledger, led })
}

/// A copy of an outbox has the locks and the fences of the original: it must not lead.
async fn refuse_copy(client: &Client, schema: &Schema) -> Result<(), PipelineError> {
    let place = Place::read(client, schema).await?;
    if let Some(moved) = place.moved() {
        return Err(PipelineError::stopped(moved, PLACE_HINT));
    }
    if place.noted.is_none() {
        Place::note(client, schema).await?;
    }
    Ok(())
}

/// Asks everything at once: while it waits for an answer nobody publishes.
async fn look(context: &Context, session: &Session) -> Result<Known, PipelineError> {
    let (schema, name) = (&context.schema, &context.target.name);
    let client: &Client = session;
    let identity = schema.sql(IDENTITY);
    let target: [(&(dyn ToSql + Sync), Type); 1] = [(name, Type::TEXT)];
    let asked = async {
        tokio::try_join!(
            admin::target::read(client, schema, name),
            Stamp::read(client, schema),
            client.query_typed_opt(&identity, &target),
            identity::with_last_id(client, schema, OUTBOX),
        )
    };
    let (ledger, stamp, kept, outbox) = session.deadline().answers(4, asked).await??;
    let kept = kept.map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(Known { ledger, stamp, kept, outbox })
}

async fn begin(context: &Context, won: Won) -> Result<Takeover, PipelineError> {
    let Won { lease, ready, known, ledger, led } = won;
    let Known { stamp, kept, outbox, .. } = known;
    if kept.is_some_and(|kept| stamp.is_restart_of(&kept)) {
        return Err(restarted().into());
    }
    let name = &context.target.name;
    let deadline = lease.session().deadline();
    // Boxed, since it is several questions at once, and large.
    let begun = Box::pin(async {
        let life = async {
            let begun = begin_life(context, lease.session(), &stamp, &outbox);
            deadline.answers(7, begun).await?.map_err(DatabaseError::from)
        };
        // The answers of the last two renew the lease, for the first message.
        tokio::try_join!(
            life,
            ready.aside.promote(&lease, name, PROMOTED_KEYS),
            ready.aside.count(&lease, name, COUNTED_ROWS),
        )
    });
    let (Life { life, outbox, holes, parked, unrouted }, (), retry_rows) = begun.await?;
    let parked = parked.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    let routes_changed = life.try_get(4)?;
    if routes_changed {
        release_waiting(&lease, &ready.aside, name, &parked).await?;
    }
    if outbox.try_get::<_, Uuid>("outbox_id")? != ready.outbox_id {
        let reason = "the outbox has got another id: the fence has another name";
        return Err(PipelineError::Lost(reason.into()));
    }
    Ok(Takeover {
        marker: Marker::new(ready.statements, name, ledger.epoch, life.try_get(0)?),
        reader: ready.reader,
        floor: outbox.try_get("floor")?,
        settled: ledger.settled,
        open: open(&holes)?,
        predecessor_id: (!ledger.created).then_some(outbox.try_get("last_value")?),
        parked,
        past: past(&life)?,
        routes_changed,
        unrouted,
        retry_rows,
        lease,
        led,
        broker: ledger.broker,
    })
}

/// What a life begins with.
struct Life {
    /// The ledger row's place, how the lives before this one ended, whether the routes changed.
    life: Row,
    outbox: Row,
    holes: Vec<Row>,
    parked: Vec<Row>,
    unrouted: Vec<KnownUnrouted>,
}

/// Counts this life as one that ended early until it has shown otherwise, and asks at the same time what it
/// begins with: the outbox, the open holes and the parked destinations.
async fn begin_life(
    context: &Context,
    session: &Session,
    stamp: &Stamp,
    outbox: &str,
) -> Result<Life, tokio_postgres::Error> {
    let (name, stamp) = (&context.target.name, stamp.text());
    let Canonical { routes, taken, hash } =
        Canonical::new(&context.target.routes, context.target.unrouted);
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (name, Type::TEXT),
        (&stamp, Type::TEXT),
        (&hash, Type::TEXT),
        (&routes, Type::TEXT),
        (&taken, Type::TEXT),
    ];
    let sql = |text| context.schema.sql(text);
    let (life, holes, parked) = (sql(BEGIN_LIFE), sql(OPEN_HOLES), sql(PARKED));
    let (life, outbox, holes, parked, unrouted, ()) = tokio::try_join!(
        session.query_typed_one(&life, &parameters),
        session.query_typed_one(outbox, &[]),
        session.query_typed(&holes, &parameters[..1]),
        session.query_typed(&parked, &parameters[..1]),
        unrouted::begin(session, &context.schema, name, &hash),
        session.batch_execute("UNLISTEN *"),
    )?;
    Ok(Life { life, outbox, holes, parked, unrouted })
}

/// What waits for other routes is tried with these. The first mark of the life records that: a run that
/// ends before it leaves the change to the next one.
async fn release_waiting(
    lease: &Lease,
    aside: &Aside,
    target: &str,
    names: &[String],
) -> Result<(), PipelineError> {
    let mut rows = 0;
    for name in names.iter().filter(|name| wait::group(name).is_some()) {
        rows += aside.release(lease, target, name, RELEASED_ROWS).await?;
    }
    if rows > 0 {
        tracing::info!(
            target_name = target,
            rows,
            "the routes have changed: what waited for that is tried again"
        );
    }
    Ok(())
}

/// How the lives before this one ended.
fn past(life: &Row) -> Result<Past, tokio_postgres::Error> {
    let count = |column: usize| life.try_get::<_, i32>(column).map(i32::unsigned_abs);
    let (suspect, suspected): (Option<i64>, u32) = (life.try_get(2)?, count(3)?);
    Ok(Past { crashes: count(1)?, suspect: suspect.map(|id| (id, suspected)) })
}

fn open(holes: &[Row]) -> Result<RangeSet, PipelineError> {
    let mut open = RangeSet::new();
    for row in holes {
        let ranges: RangeSet = row.try_get::<_, &str>(0)?.parse().map_err(|error| {
            PipelineError::stopped(format!("outbox.hole cannot be read: {error}"), "report this")
        })?;
        open.union(&ranges);
    }
    Ok(open)
}

/// Waits for the lock; says what the database knew when it had it.
async fn lock(
    context: &Context,
    session: Session,
    freed: &Notify,
    standby: &Notify,
) -> Result<(Lease, Known), PipelineError> {
    let stand_by = |intruded: bool| {
        // One that waits behind an intruder says so instead.
        if !intruded {
            context.board.set(&context.target.name, State::Standby);
        }
        standby.notify_one();
    };
    // Before the first try: what is let go after that is heard.
    let listen = format!("LISTEN \"{}\"", context.schema.free_channel());
    session.deadline().answer(session.batch_execute(&listen)).await??;
    let mut member = context.member.clone();
    let mut hopeful = true;
    let (mut looked_at, mut intruded) = (None, false);
    loop {
        if !member.has_room() {
            stand_by(intruded);
            // The first chance is for a relay that has; but nothing stays without a leader.
            tokio::select! {
                () = tokio::time::sleep(context.lease.standby_interval * COURTESY) => {}
                () = member.changed() => continue,
            }
        }
        let tried = async {
            let (schema, name) = (&context.schema, &context.target.name);
            Ok(Lease::try_take(&session, schema, name, &context.lease).await?)
        };
        let (clock, known) = if hopeful {
            // Behind the lock on the same session, so looked at once it is held.
            tokio::try_join!(biased; tried, async { look(context, &session).await.map(Some) })?
        } else {
            (tried.await?, None)
        };
        if let Some(clock) = clock {
            let known = match known {
                Some(known) => known,
                None => look(context, &session).await?,
            };
            return Ok((Lease::new(session, clock), known));
        }
        if looked_at.is_none_or(|at: Instant| at.elapsed() >= INTRUDER_INTERVAL) {
            looked_at = Some(Instant::now());
            intruded = show_intruder(context, &session).await?;
        }
        stand_by(intruded);
        hopeful = tokio::select! {
            () = tokio::time::sleep(context.lease.standby_interval) => false,
            () = freed.notified() => true,
        };
    }
}

/// A standby looks this often who holds the lock that it waits for.
const INTRUDER_INTERVAL: Duration = Duration::from_secs(5);

/// A lock that is held by a session of no relay is no reason to stand by in silence; whether it is.
async fn show_intruder(context: &Context, session: &Session) -> Result<bool, PipelineError> {
    let name = &context.target.name;
    let client: &Client = session;
    let looked = admin::backend::intruders(client, &context.schema, [name.as_str()]);
    let found = session.deadline().answer(looked).await??;
    let Some(intruder) = found.into_iter().find(|intruder| intruder.lock == *name) else {
        return Ok(false);
    };
    let (reason, hint) = (intruder.to_string(), intruder.remedy());
    if context.board.set(name, State::Waiting(Cause::new(reason.as_str(), hint.as_str()))) {
        tracing::error!(target_name = name, hint, "{reason}");
    }
    Ok(true)
}

/// Tries that others have, before a relay takes what is beyond its share.
const COURTESY: u32 = 4;

const OUTBOX_ID: &str = "SELECT outbox_id FROM outbox.meta";

const IDENTITY: &str = "SELECT identity FROM outbox.ledger WHERE target = $1";

// The routes are written with the life, so that the keeper never judges by those of a run that has
// ended. `tried` is set by a later mark: a run that ends before it has acted on a change leaves the
// change to the next one.
const BEGIN_LIFE: &str = "
WITH life AS (
    UPDATE outbox.ledger
    SET identity = $2, crashes = crashes + 1, began_at = clock_timestamp(), started_id = NULL,
        suspect_id = coalesce(started_id, suspect_id),
        suspected = CASE WHEN started_id IS NULL THEN suspected
                         WHEN started_id = suspect_id THEN suspected + 1 ELSE 1 END
    WHERE target = $1
    RETURNING ctid::text, crashes - 1 AS crashes, suspect_id, suspected
), routed AS (
    INSERT INTO outbox.route AS route (target, hash, routes, taken)
    VALUES ($1, $3, $4::text::jsonb, $5::text::jsonb)
    ON CONFLICT (target) DO UPDATE
    SET hash = excluded.hash, routes = excluded.routes, taken = excluded.taken,
        since = CASE WHEN route.hash = excluded.hash THEN route.since ELSE excluded.since END,
        tried = route.tried AND route.hash = excluded.hash
    RETURNING NOT tried AS changed
)
SELECT life.*, routed.changed FROM life, routed";

const OUTBOX: &str = "
SELECT outbox_id, floor, {last_id} AS last_value
FROM outbox.meta";

const OPEN_HOLES: &str = "
SELECT ranges::text FROM outbox.hole WHERE target = $1 AND dead_at IS NULL";

// From name to name along retry_parked.
const PARKED: &str = "
WITH RECURSIVE parked AS (
    (SELECT destination FROM outbox.retry
     WHERE target = $1 AND next_at = 'infinity' AND destination IS NOT NULL
     ORDER BY destination LIMIT 1)
    UNION ALL
    SELECT (SELECT r.destination FROM outbox.retry AS r
            WHERE r.target = $1 AND r.next_at = 'infinity' AND r.destination > parked.destination
            ORDER BY r.destination LIMIT 1)
    FROM parked WHERE parked.destination IS NOT NULL
)
SELECT destination FROM parked WHERE destination IS NOT NULL";

/// The name of a session, in pg_stat_activity: at most 63 bytes.
pub(super) fn session_name(target: &str, role: &str) -> String {
    let mut name = format!("outbox-relay {role} {target}");
    name.truncate(63);
    name
}
