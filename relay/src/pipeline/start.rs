//! How a pipeline takes its target over: sessions on one server, the lock, the ledger.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Context, PipelineError};
use crate::admin;
use crate::admin::target::LedgerRow;
use crate::board::State;
use crate::database::{Session, refuse_pooler};
use crate::flow::Past;
use crate::lease::Lease;
use crate::ledger::aside::{self, COUNTED_ROWS};
use crate::ledger::mark::Marker;
use crate::membership::Led;
use crate::range::RangeSet;
use crate::schema::{self, identity};
use crate::shutdown::Shutdown;
use crate::source::restarted;
use crate::target::Target;
use crate::target::fence::FenceName;

/// What a pipeline begins with.
pub(super) struct Takeover {
    pub(super) lease: Lease,
    pub(super) marker: Marker,
    pub(super) reader: Session,
    pub(super) floor: i64,
    pub(super) settled: RangeSet,
    pub(super) open: RangeSet,
    /// The highest id drawn so far, if a predecessor may have sent anything.
    pub(super) predecessor_id: Option<i64>,
    /// Destinations that rows of `retry` wait for.
    pub(super) parked: Vec<String>,
    /// How the lives before this one ended.
    pub(super) past: Past,
    /// Rows in `retry`.
    pub(super) retry_rows: u64,
    /// This process leads it.
    pub(super) led: Led,
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
    reader: Session,
    outbox_id: Uuid,
    ledger: LedgerRow,
    led: Led,
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
    deadline.answers(3, schema::refuse_misfit(&session, &context.schema)).await??;
    let mut reader = Session::connect(&context.database, &context.session_name("reader")).await?;
    if reader.identity().await? != session.identity().await? {
        let reason = "the address showed two servers: connecting anew";
        return Err(PipelineError::Lost(reason.into()));
    }
    let text = context.schema.sql(OUTBOX_ID);
    let outbox_id: Uuid = deadline.answer(session.query_one(&text, &[])).await??.get(0);
    let target = target.insert(make(FenceName::new(outbox_id, name)));
    let standby = Notify::new();
    let mut lease = tokio::select! {
        lease = lock(context, session, &freed, &standby) => lease?,
        // Only once there is somebody to wait for: else it would be begun, and dropped at once.
        never = async { standby.notified().await; target.stand_by().await } => match never {},
        () = reader.ended() => {
            return Err(PipelineError::Lost("the reader's session ended".into()));
        }
    };
    let led = context.member.lead(name);
    let start = context.target.start;
    let ledger = admin::target::ensure(lease.session(), &context.schema, name, start);
    let ledger = deadline.answers(8, ledger).await??;
    Ok(Won { lease, reader, outbox_id, ledger, led })
}

async fn begin(context: &Context, won: Won) -> Result<Takeover, PipelineError> {
    let Won { mut lease, reader, outbox_id, ledger, led } = won;
    let name = &context.target.name;
    let deadline = reader.deadline();
    let (ctid, past) = deadline.answers(3, begin_life(context, &mut lease)).await??;
    let (outbox, open) = deadline.answers(3, read_outbox(context, &mut lease)).await??;
    if outbox.get::<_, Uuid>("outbox_id") != outbox_id {
        let reason = "the outbox has got another id: the fence has another name";
        return Err(PipelineError::Lost(reason.into()));
    }
    let text = context.schema.sql(PARKED);
    let parked = deadline.answer(lease.session().query(&text, &[name])).await??;
    let marker = Marker::new(&mut lease, &context.schema, name, ledger.epoch, ctid).await?;
    let retry_rows = aside::count(&mut lease, &context.schema, name, COUNTED_ROWS).await?;
    lease.ping().await?;
    Ok(Takeover {
        lease,
        marker,
        reader,
        floor: outbox.get("floor"),
        settled: ledger.settled,
        open,
        predecessor_id: (!ledger.created).then_some(outbox.get("last_value")),
        parked: parked.iter().map(|row| row.get(0)).collect(),
        past,
        retry_rows,
        led,
    })
}

/// Counts this life as one that ended early until it has shown otherwise.
async fn begin_life(context: &Context, lease: &mut Lease) -> Result<(String, Past), PipelineError> {
    let name = &context.target.name;
    let session = lease.session();
    let stamp = identity::Stamp::read(&**session, &context.schema).await?;
    let kept = session.query_one(&context.schema.sql(IDENTITY), &[name]).await?;
    if kept.get::<_, Option<&str>>(0).is_some_and(|kept| stamp.is_restart_of(kept)) {
        return Err(restarted().into());
    }
    let text = context.schema.sql(BEGIN_LIFE);
    let row = session.query_one(&text, &[name, &stamp.text()]).await?;
    let count = |column: usize| row.get::<_, i32>(column).unsigned_abs();
    let suspect = row.get::<_, Option<i64>>(2).map(|id| (id, count(3)));
    Ok((row.get(0), Past { crashes: count(1), suspect }))
}

async fn lock(
    context: &Context,
    mut session: Session,
    freed: &Notify,
    standby: &Notify,
) -> Result<Lease, PipelineError> {
    let stand_by = || {
        context.board.set(&context.target.name, State::Standby);
        standby.notify_one();
    };
    // Before the first try: what is let go after that is heard.
    let listen = format!("LISTEN \"{}\"", context.schema.free_channel());
    session.deadline().answer(session.batch_execute(&listen)).await??;
    let mut member = context.member.clone();
    loop {
        if !member.has_room() {
            stand_by();
            // The first chance is for a relay that has; but nothing stays without a leader.
            tokio::select! {
                () = tokio::time::sleep(context.lease.standby_interval * COURTESY) => {}
                () = member.changed() => continue,
            }
        }
        match Lease::try_take(session, &context.schema, &context.target.name, &context.lease)
            .await?
        {
            Ok(lease) => return Ok(lease),
            Err(held) => session = held,
        }
        stand_by();
        tokio::select! {
            () = tokio::time::sleep(context.lease.standby_interval) => {}
            () = freed.notified() => {}
        }
    }
}

/// Tries that others have, before a relay takes what is beyond its share.
const COURTESY: u32 = 4;

async fn read_outbox(
    context: &Context,
    lease: &mut Lease,
) -> Result<(Row, RangeSet), PipelineError> {
    let name = &context.target.name;
    let session = lease.session();
    let text = identity::with_last_id(&**session, &context.schema, OUTBOX).await?;
    let outbox = session.query_one(&text, &[]).await?;
    let mut open = RangeSet::new();
    for row in session.query(&context.schema.sql(OPEN_HOLES), &[name]).await? {
        let ranges: RangeSet = row.get::<_, &str>(0).parse().map_err(|error| {
            PipelineError::stopped(format!("outbox.hole cannot be read: {error}"), "report this")
        })?;
        open.union(&ranges);
    }
    Ok((outbox, open))
}

const OUTBOX_ID: &str = "SELECT outbox_id FROM outbox.meta";

const IDENTITY: &str = "SELECT identity FROM outbox.ledger WHERE target = $1";

const BEGIN_LIFE: &str = "
UPDATE outbox.ledger
SET identity = $2, crashes = crashes + 1, began_at = clock_timestamp(), started_id = NULL,
    suspect_id = coalesce(started_id, suspect_id),
    suspected = CASE WHEN started_id IS NULL THEN suspected
                     WHEN started_id = suspect_id THEN suspected + 1 ELSE 1 END
WHERE target = $1
RETURNING ctid::text, crashes - 1, suspect_id, suspected";

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
