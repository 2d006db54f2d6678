//! Dead messages: listed, shown, requeued, discarded.
//!
//! What becomes of a dead row that is requeued: it stays where it is, as the copy its `retry` row is
//! served from when the message itself has been deleted. The mark that settles the `retry` row deletes
//! both in one statement if the message was delivered, and renews the dead row if it died again. Until
//! then it is *requeued*: listed as such, and neither requeued twice nor discarded.

use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, GenericClient, Row};
use uuid::Uuid;

use crate::admin::{AdminError, target};
use crate::keeper::floor;
use crate::schema::Schema;

/// Which dead messages. Every field that is set narrows the choice.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this target.
    pub target: Option<String>,
    /// With one of these ids; empty: any.
    pub ids: Vec<i64>,
    /// With this ordering key.
    pub key: Option<String>,
    /// With this topic.
    pub topic: Option<String>,
    /// With this text somewhere in the reason; upper and lower case are the same.
    pub reason: Option<String>,
    /// That died at least so long ago.
    pub older_than: Option<Duration>,
    /// That died at most so long ago.
    pub newer_than: Option<Duration>,
}

impl Filter {
    /// Whether it chooses by nothing but the target.
    #[must_use]
    pub fn is_whole_target(&self) -> bool {
        self.ids.is_empty()
            && self.key.is_none()
            && self.topic.is_none()
            && self.reason.is_none()
            && self.older_than.is_none()
            && self.newer_than.is_none()
    }
}

/// A dead message without its headers and payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadRow {
    /// For which target it is dead.
    pub target: String,
    /// Its row id.
    pub id: i64,
    /// Its message id.
    pub message_id: Uuid,
    /// Its topic.
    pub topic: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its ordering key.
    pub key: Option<String>,
    /// How often it was tried.
    pub attempts: i32,
    /// What kind of refusal ended it.
    pub class: String,
    /// What the broker said.
    pub reason: String,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it died.
    #[serde(with = "time::serde::rfc3339")]
    pub died_at: OffsetDateTime,
    /// The length of its payload in bytes; `None`: it has none (a tombstone).
    pub payload_bytes: Option<i32>,
    /// It stands in `retry` again.
    pub requeued: bool,
}

/// A dead message with its headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadMessage {
    /// Everything else.
    #[serde(flatten)]
    pub row: DeadRow,
    /// Its headers, as written.
    pub headers: Option<serde_json::Value>,
}

/// What a requeue or a discard did, or (dry run) would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// How many messages.
    pub rows: u64,
    /// Their ids, ascending, the first hundred.
    pub ids: Vec<i64>,
    /// More are chosen than one run takes: run it again.
    pub more: bool,
}

/// Who gave messages up, and why: recorded in `discarded`.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// A person's name; the session's role without it.
    pub by: Option<&'a str>,
    /// For those who ask later.
    pub reason: &'a str,
}

/// Messages that one requeue or discard takes.
pub const CHANGE_ROWS_MAX: i64 = 100_000;

/// Ids that [`Changed`] names.
const IDS_NAMED_MAX: usize = 100;

const COLUMNS: &str = "
dead.target, dead.id, message_id, topic, type, key, attempts, class, reason, created_at, died_at,
octet_length(payload) AS payload_bytes,
EXISTS (SELECT FROM outbox.retry WHERE retry.target = dead.target AND retry.id = dead.id
        AND retry.class <> 'poison') AS requeued";

// $1 to $7. strpos and not LIKE: a reason is full of underscores and percent signs.
const CHOSEN: &str = "
($1::text IS NULL OR dead.target = $1)
AND ($2::bigint[] IS NULL OR dead.id = ANY ($2))
AND ($3::text IS NULL OR dead.key = $3)
AND ($4::text IS NULL OR dead.topic = $4)
AND ($5::text IS NULL OR strpos(lower(dead.reason), lower($5)) > 0)
AND ($6::float8 IS NULL OR dead.died_at <= now() - make_interval(secs => $6))
AND ($7::float8 IS NULL OR dead.died_at >= now() - make_interval(secs => $7))";

const NOT_REQUEUED: &str = "
NOT EXISTS (SELECT FROM outbox.retry WHERE retry.target = dead.target AND retry.id = dead.id
            AND retry.class <> 'poison')";

const ID_TAKEN: &str = "
EXISTS (SELECT FROM outbox.message WHERE message.id = dead.id AND message.message_id <> dead.message_id)";

/// The chosen dead messages, those that died last first, at most `rows_max`.
///
/// # Errors
/// The database's.
pub async fn list(
    client: &impl GenericClient,
    schema: &Schema,
    filter: &Filter,
    rows_max: i64,
) -> Result<Vec<DeadRow>, Error> {
    let text = format!(
        "SELECT {COLUMNS} FROM outbox.dead WHERE {CHOSEN}
         ORDER BY died_at DESC, dead.target, dead.id LIMIT $8"
    );
    let rows = Chosen::new(filter).query(client, &schema.sql(&text), &[&rows_max]).await?;
    Ok(rows.iter().map(dead_row).collect())
}

/// One dead message with its headers, without its payload.
///
/// # Errors
/// The database's.
pub async fn show(
    client: &impl GenericClient,
    schema: &Schema,
    target: &str,
    id: i64,
) -> Result<Option<DeadMessage>, Error> {
    let text = format!(
        "SELECT {COLUMNS}, headers FROM outbox.dead WHERE dead.target = $1 AND dead.id = $2"
    );
    let row = client.query_opt(&schema.sql(&text), &[&target, &id]).await?;
    Ok(row.map(|row| DeadMessage { row: dead_row(&row), headers: row.get("headers") }))
}

/// The payload of one dead message: `None`, there is no such message; `Some(None)`, it has none.
///
/// # Errors
/// The database's.
pub async fn payload(
    client: &impl GenericClient,
    schema: &Schema,
    target: &str,
    id: i64,
) -> Result<Option<Option<Vec<u8>>>, Error> {
    let text = "SELECT payload FROM outbox.dead WHERE target = $1 AND id = $2";
    let row = client.query_opt(&schema.sql(text), &[&target, &id]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Puts the chosen messages of one target into `retry` again, with no attempts, due at once, holding
/// nobody; one that holds its key (`on_poison = "hold_key"`) goes on holding it until it is delivered. Under `@floor`, so that retention sees the `retry` row or has deleted the message before.
///
/// One whose id another message has by now (the identity went back) is left out: `retry` names rows by
/// their ids, and the other would be sent.
///
/// With `dry_run` everything is done, counted and rolled back.
///
/// # Errors
/// [`AdminError::UnknownTarget`] if the target has no ledger (it was removed): nobody would serve the
/// rows. [`AdminError::IdTaken`] if it was asked for by its id and is left out.
/// [`AdminError::Busy`], the database's.
pub async fn requeue(
    client: &mut Client,
    schema: &Schema,
    target: &str,
    filter: &Filter,
    dry_run: bool,
) -> Result<Changed, AdminError> {
    let text = format!(
        "INSERT INTO outbox.retry (target, id, key, holds, attempts, next_at, class, reason)
         SELECT target, id, key, false, 0, now(), 'requeued', reason
         FROM outbox.dead WHERE {CHOSEN} AND {NOT_REQUEUED} AND NOT {ID_TAKEN} ORDER BY id LIMIT $8
         ON CONFLICT (target, id) DO UPDATE
         SET class = 'requeued', attempts = 0, next_at = now()
         WHERE retry.class = 'poison'
         RETURNING id"
    );
    let transaction = floor::hold(client, schema).await?;
    if target::read(&transaction, schema, target).await?.is_none() {
        return Err(target::unknown(&transaction, schema, target).await?);
    }
    let filter = Filter { target: Some(target.to_owned()), ..filter.clone() };
    if !filter.ids.is_empty() {
        let text = format!("SELECT id FROM outbox.dead WHERE {CHOSEN} AND {ID_TAKEN} ORDER BY id");
        let taken = Chosen::new(&filter).query(&transaction, &schema.sql(&text), &[]).await?;
        if let Some(row) = taken.first() {
            return Err(AdminError::IdTaken { target: target.to_owned(), id: row.get("id") });
        }
    }
    let rows =
        Chosen::new(&filter).query(&transaction, &schema.sql(&text), &[&CHANGE_ROWS_MAX]).await?;
    end(transaction, dry_run).await?;
    Ok(changed(&rows))
}

/// Deletes the chosen dead messages of one target and records who decided it, and why. Messages that
/// are requeued are left alone; a key that one of them held is free. Under `@floor`, so that nobody requeues them meanwhile.
///
/// With `dry_run` everything is done, counted and rolled back.
///
/// # Errors
/// [`AdminError::Busy`], the database's.
pub async fn discard(
    client: &mut Client,
    schema: &Schema,
    target: &str,
    filter: &Filter,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<Changed, AdminError> {
    let text = format!(
        "WITH chosen AS (
             SELECT target, id FROM outbox.dead
             WHERE {CHOSEN} AND {NOT_REQUEUED} ORDER BY id LIMIT $8
         ), gone AS (
             DELETE FROM outbox.dead USING chosen
             WHERE dead.target = chosen.target AND dead.id = chosen.id
             RETURNING dead.target, dead.id, dead.message_id
         )
         INSERT INTO outbox.discarded (target, id, message_id, reason, discarded_by)
         SELECT target, id, message_id, $9, coalesce($10, session_user) FROM gone
         RETURNING id"
    );
    let transaction = floor::hold(client, schema).await?;
    let filter = Filter { target: Some(target.to_owned()), ..filter.clone() };
    let rows = Chosen::new(&filter)
        .query(
            &transaction,
            &schema.sql(&text),
            &[&CHANGE_ROWS_MAX, &decision.reason, &decision.by],
        )
        .await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.get("id")).collect();
    transaction.execute(&schema.sql(RELEASE_KEYS), &[&target, &ids]).await?;
    end(transaction, dry_run).await?;
    Ok(changed(&rows))
}

// The rows that held a key for the sake of a dead message go, and the next of the key is due.
const RELEASE_KEYS: &str = "
WITH released AS (
    DELETE FROM outbox.retry
    WHERE target = $1 AND id = ANY ($2) AND class = 'poison' RETURNING id, key
)
UPDATE outbox.retry SET next_at = now()
FROM (SELECT key, array_agg(id) AS ids FROM released GROUP BY key) AS free,
     LATERAL (
         SELECT next.id FROM outbox.retry AS next
         WHERE next.target = $1 AND next.key = free.key AND next.holds AND next.id <> ALL (free.ids)
         ORDER BY next.id LIMIT 1
     ) AS head
WHERE retry.target = $1 AND retry.id = head.id AND retry.next_at IS NULL";

async fn end(transaction: tokio_postgres::Transaction<'_>, dry_run: bool) -> Result<(), Error> {
    if dry_run { transaction.rollback().await } else { transaction.commit().await }
}

fn changed(rows: &[Row]) -> Changed {
    let mut ids: Vec<i64> = rows.iter().map(|row| row.get("id")).collect();
    ids.sort_unstable();
    ids.truncate(IDS_NAMED_MAX);
    let more = i64::try_from(rows.len()).is_ok_and(|rows| rows >= CHANGE_ROWS_MAX);
    Changed { rows: rows.len() as u64, ids, more }
}

/// The parameters $1 to $7 of [`CHOSEN`].
struct Chosen<'a> {
    filter: &'a Filter,
    ids: Option<&'a [i64]>,
    older_s: Option<f64>,
    newer_s: Option<f64>,
}

impl<'a> Chosen<'a> {
    fn new(filter: &'a Filter) -> Self {
        Self {
            filter,
            ids: (!filter.ids.is_empty()).then_some(filter.ids.as_slice()),
            older_s: filter.older_than.map(|age| age.as_secs_f64()),
            newer_s: filter.newer_than.map(|age| age.as_secs_f64()),
        }
    }

    /// Runs `text` with $1 to $7, and `more` from $8 on.
    async fn query(
        &self,
        client: &impl GenericClient,
        text: &str,
        more: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let Filter { target, key, topic, reason, .. } = self.filter;
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![target, &self.ids, key, topic, reason, &self.older_s, &self.newer_s];
        parameters.extend_from_slice(more);
        client.query(text, &parameters).await
    }
}

fn dead_row(row: &Row) -> DeadRow {
    DeadRow {
        target: row.get("target"),
        id: row.get("id"),
        message_id: row.get("message_id"),
        topic: row.get("topic"),
        kind: row.get("type"),
        key: row.get("key"),
        attempts: row.get("attempts"),
        class: row.get("class"),
        reason: row.get("reason"),
        created_at: row.get("created_at"),
        died_at: row.get("died_at"),
        payload_bytes: row.get("payload_bytes"),
        requeued: row.get("requeued"),
    }
}
