//! `replay`: sends settled messages to one target once more, under the same message ids.
//!
//! Each becomes a row of `retry` that holds nobody, so a replay of a million old messages delays no
//! live key, and promises no order among its own. It goes through the outbox in pieces, each a
//! transaction under `@floor`: retention sees the `retry` row, or has deleted the message before.
//!
//! What is pending is left alone, since it is delivered anyway, and so is what stands in `retry` or
//! `dead`. An id that is settled and in neither is done with for good: no mark touches it any more, so
//! nothing that is decided here can be overtaken by one.

use serde::Serialize;
use time::OffsetDateTime;
use tokio_postgres::{Client, Error, Row, Transaction};
use uuid::Uuid;

use crate::admin::unrouted::running;
use crate::admin::{AdminError, end, named, target};
use crate::decision::{self, Decided, Decision};
use crate::keeper::{SCAN_SETTINGS, floor};
use crate::route::{Pattern, Router, Taken};
use crate::schema::Schema;

mod cursor;
mod look;
mod unrouted;

use cursor::{At, PIECE_ROWS, Part, Pieces};
use look::look;

/// Which messages. Every field that is set narrows the choice.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Choice {
    /// With one of these ids; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<i64>,
    /// With this ordering key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// With such a topic.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "glob")]
    pub topic: Option<Pattern>,
    /// Written then or later.
    #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub from: Option<OffsetDateTime>,
    /// Written before.
    #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub to: Option<OffsetDateTime>,
    /// Settled unsent, since no route took it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unrouted: bool,
    /// With an id above this one: where an earlier run has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_id: Option<i64>,
}

fn glob<S: serde::Serializer>(glob: &Option<Pattern>, serializer: S) -> Result<S::Ok, S::Error> {
    glob.as_ref().map(Pattern::as_str).serialize(serializer)
}

/// For whom, and how much.
#[derive(Debug)]
pub struct Request<'a> {
    /// The one target that gets them.
    pub target: &'a str,
    /// Its routes: what none of them takes would end in `dead`, and is left out.
    pub router: &'a Router,
    /// Which messages.
    pub choice: &'a Choice,
    /// At most so many.
    pub rows_max: u64,
    /// Everything is done, counted and rolled back.
    pub dry_run: bool,
}

impl Request<'_> {
    /// Whether the row would be sent: what no route of the running relay takes would end in `dead`, as
    /// well as what no route of this configuration takes once it runs.
    fn takes(&self, running: &Taken, topic: &str, kind: Option<&str>) -> bool {
        self.router.find(topic, kind).is_some() && running.takes(topic, kind)
    }
}

/// What a replay did, or (dry run) would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// The value of the header `x-outbox-replay` of all of them.
    pub replay_id: Uuid,
    /// The target.
    pub target: String,
    /// Messages that are sent once more.
    pub rows: u64,
    /// Their ids, ascending, the first hundred.
    pub ids: Vec<i64>,
    /// Chosen, and left alone: they are not settled and will be delivered anyway.
    pub pending: u64,
    /// Chosen, and left alone: they stand in `retry` or `dead` of the target.
    pub set_aside: u64,
    /// Chosen, and left alone: no route of the target takes them.
    pub unrouted: u64,
    /// Asked for by id, and not there.
    pub missing: u64,
    /// Their ids, ascending, the first hundred.
    pub missing_ids: Vec<i64>,
    /// What lies below this id was deleted by retention, unless something still needs it.
    pub floor: i64,
    /// Stopped by the limit behind this id: go on after it.
    pub more_after: Option<i64>,
}

/// Replays the chosen messages, lowest ids first.
///
/// Cancel safety: dropping the future rolls back the piece in hand; those before it stay.
///
/// # Errors
/// [`AdminError::UnknownTarget`], [`AdminError::Busy`], the database's; with
/// [`AdminError::Partly`] around it once a piece is committed.
pub async fn replay(
    client: &mut Client,
    schema: &Schema,
    request: &Request<'_>,
    decision: &Decision<'_>,
) -> Result<Replayed, AdminError> {
    let mut replayed = Replayed {
        replay_id: Uuid::now_v7(),
        target: request.target.to_owned(),
        rows: 0,
        ids: Vec::new(),
        pending: 0,
        set_aside: 0,
        unrouted: 0,
        missing: 0,
        missing_ids: Vec::new(),
        floor: 0,
        more_after: None,
    };
    let mut pieces = Pieces::new(request.choice);
    while let Some(part) = pieces.next() {
        match piece(client, schema, request, decision, part, &mut replayed).await {
            Ok(Some(at)) => pieces.passed(at),
            Ok(None) => break,
            Err(source) if replayed.rows > 0 && !request.dry_run => {
                let done = format!("{} messages were put up for replay", replayed.rows);
                let hint = format!("go on with --after-id {}", pieces.after);
                return Err(AdminError::Partly { done, hint, source: Box::new(source) });
            }
            Err(error) => return Err(error),
        }
    }
    replayed.missing_ids = named(std::mem::take(&mut replayed.missing_ids));
    Ok(replayed)
}

const OUTBOX: &str = "
SELECT floor, (SELECT coalesce(max(id), 0) FROM outbox.message) AS last FROM outbox.meta";

/// `None`: the limit is reached. Nothing of `replayed` is changed by a piece that fails.
async fn piece(
    client: &mut Client,
    schema: &Schema,
    request: &Request<'_>,
    decision: &Decision<'_>,
    part: Part,
    replayed: &mut Replayed,
) -> Result<Option<At>, AdminError> {
    let after = part.after();
    let transaction = floor::hold(client, schema).await?;
    transaction.batch_execute(SCAN_SETTINGS).await?;
    target::expect(&transaction, schema, request.target).await?;
    let outbox = transaction.query_one(&schema.sql(OUTBOX), &[]).await?;
    let (floor, last): (i64, i64) = (outbox.get("floor"), outbox.get("last"));

    let looked = look(&transaction, schema, request, &part, last).await?;
    let room = usize::try_from(request.rows_max - replayed.rows).unwrap_or(usize::MAX);
    let running = running(&transaction, schema, request.target).await?;
    let sorted = sort(&looked.rows, request, &running, room);
    let put = put(&transaction, schema, request.target, &sorted.chosen, replayed.replay_id).await?;
    let ids = decision::id_set(&put);
    let decided = Decided {
        command_id: replayed.replay_id,
        command: "replay",
        target: Some(request.target),
        filter: request.choice,
        rows: put.len() as u64,
        ids: ids.clone(),
        message_ids: None,
    };
    decision::record(&transaction, schema, decided, decision).await?;
    // Last: a mark that changes such a row waits for this transaction.
    let reached = sorted.cut_after.unwrap_or(looked.at.id);
    unrouted::take_out(&transaction, schema, request, &running, (after, reached), &ids).await?;
    end(transaction, request.dry_run).await?;

    replayed.floor = floor;
    replayed.rows += put.len() as u64;
    replayed.ids = named([std::mem::take(&mut replayed.ids), put].concat());
    replayed.pending += sorted.pending;
    replayed.set_aside += sorted.set_aside;
    replayed.unrouted += sorted.unrouted;
    replayed.missing += looked.missing.len() as u64;
    replayed.missing_ids.extend(looked.missing);
    replayed.missing_ids.truncate(PIECE_ROWS);
    replayed.more_after = sorted.cut_after;
    Ok(sorted.cut_after.is_none().then_some(looked.at))
}

/// What becomes of the messages of a piece.
#[derive(Default)]
struct Sorted {
    chosen: Vec<i64>,
    pending: u64,
    set_aside: u64,
    unrouted: u64,
    /// There is no room for what comes after this id.
    cut_after: Option<i64>,
}

fn sort(rows: &[Row], request: &Request<'_>, running: &Taken, room: usize) -> Sorted {
    let mut sorted = Sorted::default();
    // A piece of which nothing was chosen shows one row without an id.
    for row in rows {
        let Some(id) = row.get::<_, Option<i64>>("id") else { continue };
        let (topic, kind): (&str, Option<&str>) = (row.get("topic"), row.get("type"));
        if request.choice.topic.as_ref().is_some_and(|glob| !glob.matches(topic)) {
            continue;
        }
        let chosen = !request.choice.unrouted || row.get("unrouted");
        if !row.get::<_, bool>("settled") {
            // What is recorded of its topic may include it: it is sent, or not, when it is read.
            sorted.pending += u64::from(chosen);
        } else if row.get("set_aside") {
            sorted.set_aside += u64::from(chosen);
        } else if request.choice.unrouted && !row.get::<_, bool>("unrouted") {
            // It was sent, or is none of the target's: not chosen.
        } else if !request.takes(running, topic, kind) {
            sorted.unrouted += 1;
        } else if sorted.chosen.len() == room {
            sorted.cut_after = Some(id - 1);
            break;
        } else {
            sorted.chosen.push(id);
        }
    }
    sorted
}

const PUT: &str = "
INSERT INTO outbox.retry (target, id, key, holds, attempts, next_at, class, replay_id)
SELECT $1, id, key, false, 0, now(), 'replayed', $3
FROM outbox.message WHERE id = ANY ($2) ORDER BY id
ON CONFLICT (target, id) DO NOTHING
RETURNING id";

async fn put(
    transaction: &Transaction<'_>,
    schema: &Schema,
    target: &str,
    ids: &[i64],
    replay_id: Uuid,
) -> Result<Vec<i64>, Error> {
    let rows = transaction.query(&schema.sql(PUT), &[&target, &ids, &replay_id]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
