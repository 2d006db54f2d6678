//! The retry read: what was set aside and is due, each key's head with the rows that wait behind it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::{TryStreamExt, pin_mut};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

use super::RetryRow;
use super::apart::{column, read_apart, remains};
use super::column::{self, Body};
use super::error::{ReadError, classify};
use crate::database::Session;
use crate::schema::Schema;

/// Due heads in one read. Their followers come with them, so this bounds keys, not rows.
const HEADS_MAX: usize = 200;
/// Rows of one key in one read: a long queue drains in steps, beside the others.
const KEY_ROWS_MAX: usize = 200;
/// Rows that become due one by one are read together.
const DUE_PAUSE_MIN: Duration = Duration::from_millis(20);
/// A timer needs no more, however far the next row lies ahead.
const DUE_PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Due heads by `retry_due` and in its order, which needs no sort: a replay makes a million rows due
/// at the same instant. Followers by `retry_by_key`, as the ranges on `f.key` and the ORDER BY insist.
/// A row that an earlier one of its key holds is not due, whatever its time. A message comes from its
/// table, or from its dead copy.
const DUE: &str = "
SELECT e.id, e.holds, e.attempts, e.replay_id, e.head, e.sent{list}
FROM (
    SELECT d.next_at, d.id AS head_id, k.*
    FROM (
        SELECT r.next_at, r.id, r.key, r.holds, r.attempts, r.class, r.replay_id,
               r.destination, r.sent
        FROM outbox.retry r
        WHERE r.target = $1 AND r.next_at <= statement_timestamp() AND r.id NOT IN (SELECT unnest($2::int8[]))
          AND NOT (r.holds AND coalesce(r.id > (
              SELECT e.id FROM outbox.retry e
              WHERE e.target = $1 AND e.holds AND e.key >= r.key AND e.key <= r.key
              ORDER BY e.key, e.id LIMIT 1
          ), false))
        ORDER BY r.next_at LIMIT {heads}
    ) d
    CROSS JOIN LATERAL (
        SELECT d.id, d.key, d.holds, d.attempts, d.class, d.replay_id, d.destination, d.sent, true AS head
        UNION ALL (
            SELECT f.id, f.key, f.holds, f.attempts, f.class, f.replay_id, f.destination, f.sent, false
            FROM outbox.retry f
            WHERE d.holds AND f.target = $1 AND f.holds AND f.key >= d.key AND f.key <= d.key AND f.id > d.id
            ORDER BY f.key, f.id LIMIT {key_rows}
        )
    ) k
    ORDER BY d.next_at, d.id, k.id LIMIT {limit}
) e
LEFT JOIN LATERAL (
    SELECT id, message_id, created_at, topic, key, type, headers, payload
    FROM outbox.message WHERE id = e.id
    UNION ALL
    SELECT id, message_id, created_at, topic, key, type, headers, payload
    FROM outbox.dead WHERE target = $1 AND id = e.id
    LIMIT 1
) m ON true
ORDER BY e.next_at, e.head_id, e.id";

/// The same rows by their ids, where a read of all of them fails.
const BY_ID: &str = "
SELECT e.id{list}
FROM outbox.retry e
LEFT JOIN LATERAL (
    SELECT id, message_id, created_at, topic, key, type, headers, payload
    FROM outbox.message WHERE id = e.id
    UNION ALL
    SELECT id, message_id, created_at, topic, key, type, headers, payload
    FROM outbox.dead WHERE target = $2 AND id = e.id
    LIMIT 1
) m ON true
WHERE e.target = $2 AND e.id = ANY ($1::int8[])";

/// Sent before the rows are asked for: what becomes due between the two is in the second, and what is
/// in neither does not exist.
const NEXT_DUE: &str = "
SELECT EXTRACT(EPOCH FROM r.next_at - statement_timestamp())::float8
FROM outbox.retry r
WHERE r.target = $1 AND r.next_at > statement_timestamp() AND r.next_at < 'infinity'
ORDER BY r.next_at LIMIT 1";

const PAYLOADS: &str = "
SELECT id, payload FROM outbox.message WHERE id = ANY ($1::int8[])
UNION ALL
SELECT id, payload FROM outbox.dead WHERE target = $2 AND id = ANY ($1::int8[])";

/// The result of a retry read. The rows lack their messages.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) rows: Vec<(RetryRow, Body)>,
    pub(super) next_due: Option<Duration>,
}

/// The prepared statements of the retry read.
pub(super) struct Retry {
    pub(super) target: String,
    schema: Schema,
    rows_max: usize,
    row_bytes_max: usize,
    due: Statement,
    next_due: Statement,
    pub(super) payloads: Statement,
}

impl Retry {
    pub(super) async fn prepare(
        client: &Client,
        schema: &Schema,
        target: &str,
        rows_max: usize,
        row_bytes_max: usize,
    ) -> Result<Self, tokio_postgres::Error> {
        let due = due_text(&list(), rows_max);
        Ok(Self {
            target: target.to_owned(),
            schema: schema.clone(),
            rows_max,
            row_bytes_max,
            due: client.prepare(&schema.sql(&due)).await?,
            next_due: client.prepare(&schema.sql(NEXT_DUE)).await?,
            payloads: client.prepare(&schema.sql(PAYLOADS)).await?,
        })
    }

    /// Reads what is due, without the heads that are `in_hand`.
    pub(super) async fn read(&self, client: &Client, in_hand: &[i64]) -> Result<Due, ReadError> {
        let failed = |error| classify(WHAT, error);
        let next_due = self.next_due(client).await?;
        let parameters: [&(dyn ToSql + Sync); 2] = [&self.target, &in_hand];
        let result = client.query_raw(&self.due, parameters).await.map_err(failed)?;
        pin_mut!(result);
        let (mut rows, mut ids) = (Vec::new(), HashSet::new());
        while let Some(row) = result.try_next().await.map_err(failed)? {
            let mut retry = own(&row).map_err(failed)?;
            // Two due heads of one key, which nobody should have made, show each other.
            if !ids.insert(retry.id) {
                continue;
            }
            let body = self.rest(&mut retry, row, OWN).map_err(failed)?;
            rows.push((retry, body));
        }
        Ok(Due { rows, next_due })
    }

    /// The same where a row among them cannot be read: which rows are due is asked in one snapshot,
    /// and each is then read by its id.
    pub(super) async fn read_apart(
        &self,
        client: &Session,
        in_hand: &[i64],
    ) -> Result<Due, ReadError> {
        let failed = |error| classify(WHAT, error);
        let deadline = client.deadline();
        let next_due = deadline.answer(self.next_due(client)).await??;
        let text = self.schema.sql(&due_text("", self.rows_max));
        let found = deadline.answer(client.query(&text, &[&self.target, &in_hand])).await?;
        let mut seen = HashSet::new();
        let mut due = Vec::new();
        for row in found.map_err(failed)? {
            let retry = own(&row).map_err(failed)?;
            if seen.insert(retry.id) {
                due.push(retry);
            }
        }
        let ids: Vec<i64> = due.iter().map(|retry| retry.id).collect();
        let text = self.schema.sql(&BY_ID.replace("{list}", &list()));
        let statement = deadline.answer(client.prepare(&text)).await?.map_err(failed)?;
        let apart = read_apart(client, WHAT, &statement, &ids, &[&self.target]).await?;
        let mut found = HashMap::new();
        for row in apart.rows {
            found.insert(row.try_get::<_, i64>(0).map_err(failed)?, row);
        }
        let mut rows = Vec::new();
        for mut retry in due {
            let body = match (found.remove(&retry.id), apart.unreadable.get(&retry.id)) {
                (Some(row), _) => self.rest(&mut retry, row, 1).map_err(failed)?,
                (None, Some(reason)) => self.remains(client, &mut retry, reason).await?,
                // It has left `retry` meanwhile.
                (None, None) => continue,
            };
            rows.push((retry, body));
        }
        Ok(Due { rows, next_due })
    }

    async fn next_due(&self, client: &Client) -> Result<Option<Duration>, ReadError> {
        let failed = |error| classify(WHAT, error);
        let next = client.query_opt(&self.next_due, &[&self.target]).await.map_err(failed)?;
        let next = next.map(|row| row.try_get(0)).transpose().map_err(failed)?;
        Ok(next.map(seconds))
    }

    /// Takes the columns of [`list`] from `first` on.
    fn rest(&self, retry: &mut RetryRow, row: Row, first: usize) -> Result<Body, Error> {
        retry.key = row.try_get(first)?;
        retry.class = row.try_get(first + 1)?;
        retry.destination = row.try_get(first + 2)?;
        Ok(match row.try_get(first + 3)? {
            true => Body::decode(retry.id, row, first + 4, self.row_bytes_max),
            false => Body::Gone,
        })
    }

    /// What can be read of a row that cannot be read as a whole.
    async fn remains(
        &self,
        client: &Session,
        retry: &mut RetryRow,
        reason: &str,
    ) -> Result<Body, ReadError> {
        let from = self.schema.sql("FROM outbox.retry WHERE id = $1 AND target = $2");
        let place: [&(dyn ToSql + Sync); 2] = [&retry.id, &self.target];
        retry.key = column(client, "key", &from, &place).await?;
        retry.destination = column(client, "destination", &from, &place).await?;
        retry.class = column(client, "class", &from, &place).await?.unwrap_or_default();
        let message = remains(client, &self.schema, &self.target, retry.id, reason).await?;
        Ok(Body::Ready(message))
    }
}

const WHAT: &str = "reading what is due again";

/// Columns of [`DUE`] before its `{list}`.
const OWN: usize = 6;

/// The columns that the server has to convert.
fn list() -> String {
    format!(
        ", e.key, e.class, e.destination, m.id IS NOT NULL,
    {}",
        column::list()
    )
}

fn due_text(list: &str, rows_max: usize) -> String {
    DUE.replace("{list}", list)
        .replace("{heads}", &HEADS_MAX.to_string())
        .replace("{key_rows}", &KEY_ROWS_MAX.to_string())
        .replace("{limit}", &rows_max.to_string())
}

/// The columns before the `{list}` of [`DUE`].
fn own(row: &Row) -> Result<RetryRow, Error> {
    Ok(RetryRow {
        message: None,
        id: row.try_get(0)?,
        key: None,
        holds: row.try_get(1)?,
        attempts: row.try_get::<_, i32>(2)?.unsigned_abs(),
        class: String::new(),
        replay: row.try_get(3)?,
        head: row.try_get(4)?,
        destination: None,
        sent: row.try_get(5)?,
    })
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// When to read what is due: when the pipeline asks, and when the next row's time has come.
pub(super) struct RetryClock {
    /// The heads that the pipeline has in hand; every value that is sent asks for a read.
    asked: watch::Receiver<Vec<i64>>,
    due: Option<Instant>,
}

impl RetryClock {
    /// Due at once: what an earlier life set aside.
    pub(super) fn new(asked: watch::Receiver<Vec<i64>>) -> Self {
        Self { asked, due: Some(Instant::now()) }
    }

    pub(super) fn is_due(&self) -> bool {
        self.asked.has_changed().unwrap_or(false)
            || self.due.is_some_and(|due| due <= Instant::now())
    }

    /// When the next row's time comes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes the request, if there is one: the heads in hand. Due until `done`, should the read fail.
    pub(super) fn take(&mut self) -> Vec<i64> {
        self.due = Some(Instant::now());
        self.asked.borrow_and_update().clone()
    }

    /// A read was made.
    pub(super) fn done(&mut self, next_due: Option<Duration>) {
        self.due =
            next_due.map(|next_due| Instant::now() + next_due.clamp(DUE_PAUSE_MIN, DUE_PAUSE_MAX));
    }

    /// Waits for a request. Cancel safe: a request stays until it is taken.
    pub(super) async fn asked(&mut self) {
        match self.asked.changed().await {
            // Left as it was found, for `is_due` and `take`.
            Ok(()) => self.asked.mark_changed(),
            // A pipeline that has dropped its end asks no more.
            Err(_) => std::future::pending().await,
        }
    }
}
