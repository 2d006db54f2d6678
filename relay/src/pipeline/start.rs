//! How a pipeline takes its target over: sessions on one server, the lock, the ledger.

use tokio_postgres::Row;

use super::{Context, PipelineError};
use crate::admin;
use crate::board::State;
use crate::database::{Session, refuse_pooler};
use crate::flow::Past;
use crate::lease::Lease;
use crate::ledger::mark::Marker;
use crate::range::RangeSet;
use crate::shutdown::Shutdown;
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
    /// What this leader holds at the broker.
    pub(super) fence: FenceName,
}

/// Waits for the lock and reads where the target stands; `None` if the daemon stops meanwhile.
pub(super) async fn take_over(
    context: &Context,
    shutdown: &Shutdown,
) -> Result<Option<Takeover>, PipelineError> {
    let name = &context.target.name;
    refuse_pooler(&context.database, &context.session_name("start")).await?;
    let session = Session::connect(&context.database, &context.session_name("lease")).await?;
    let identity = session.identity().await?;
    let Some(mut lease) = lock(context, shutdown, session).await? else { return Ok(None) };
    let reader = Session::connect(&context.database, &context.session_name("reader")).await?;
    if reader.identity().await? != identity {
        let reason = "the address showed two servers: connecting anew";
        return Err(PipelineError::Lost(reason.into()));
    }
    let row =
        admin::target::ensure(lease.session(), &context.schema, name, context.target.start).await?;
    let (ctid, past) = begin_life(context, &mut lease).await?;
    let (outbox, open) = read_outbox(context, &mut lease).await?;
    let parked = lease.session().query(&context.schema.sql(PARKED), &[name]).await?;
    let marker = Marker::new(&mut lease, &context.schema, name, row.epoch, ctid).await?;
    lease.ping().await?;
    Ok(Some(Takeover {
        lease,
        marker,
        reader,
        floor: outbox.get("floor"),
        settled: row.settled,
        open,
        predecessor_id: (!row.created).then_some(outbox.get("last_value")),
        parked: parked.iter().map(|row| row.get(0)).collect(),
        past,
        retry_rows: u64::try_from(outbox.get::<_, i64>("retry_rows")).unwrap_or(0),
        fence: FenceName::new(outbox.get("outbox_id"), name),
    }))
}

/// Counts this life as one that ended early until it has shown otherwise.
async fn begin_life(context: &Context, lease: &mut Lease) -> Result<(String, Past), PipelineError> {
    let name = &context.target.name;
    let row = lease.session().query_one(&context.schema.sql(BEGIN_LIFE), &[name]).await?;
    let count = |column: usize| row.get::<_, i32>(column).unsigned_abs();
    let suspect = row.get::<_, Option<i64>>(2).map(|id| (id, count(3)));
    Ok((row.get(0), Past { crashes: count(1), suspect }))
}

async fn lock(
    context: &Context,
    shutdown: &Shutdown,
    mut session: Session,
) -> Result<Option<Lease>, PipelineError> {
    loop {
        match Lease::try_take(session, &context.schema, &context.target.name, &context.lease)
            .await?
        {
            Ok(lease) => return Ok(Some(lease)),
            Err(held) => session = held,
        }
        context.board.set(&context.target.name, State::Standby);
        tokio::select! {
            () = tokio::time::sleep(context.lease.standby_interval) => {}
            () = shutdown.stop.cancelled() => return Ok(None),
        }
    }
}

async fn read_outbox(
    context: &Context,
    lease: &mut Lease,
) -> Result<(Row, RangeSet), PipelineError> {
    let name = &context.target.name;
    let session = lease.session();
    let outbox = session.query_one(&context.schema.sql(OUTBOX), &[name]).await?;
    let mut open = RangeSet::new();
    for row in session.query(&context.schema.sql(OPEN_HOLES), &[name]).await? {
        let ranges: RangeSet = row.get::<_, &str>(0).parse().map_err(|error| {
            PipelineError::stopped(format!("outbox.hole cannot be read: {error}"), "report this")
        })?;
        open.union(&ranges);
    }
    Ok((outbox, open))
}

const BEGIN_LIFE: &str = "
UPDATE outbox.ledger
SET crashes = crashes + 1, began_at = clock_timestamp(), started_id = NULL,
    suspect_id = coalesce(started_id, suspect_id),
    suspected = CASE WHEN started_id IS NULL THEN suspected
                     WHEN started_id = suspect_id THEN suspected + 1 ELSE 1 END
WHERE target = $1
RETURNING ctid::text, crashes - 1, suspect_id, suspected";

// last_value of a sequence that was never used is 1: one id too many marks nothing wrongly.
const OUTBOX: &str = "
SELECT outbox_id, floor,
       (SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox.message', 'id')::regclass), 0))
           AS last_value,
       (SELECT count(*) FROM outbox.retry WHERE target = $1) AS retry_rows
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
