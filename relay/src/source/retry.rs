//! The retry read: what was set aside and is due, each key's head with the rows that wait behind it.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{TryStreamExt, pin_mut};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::RetryRow;
use super::column::{self, Body};
use super::error::{ReadError, classify};
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
SELECT e.id, e.key, e.holds, e.attempts, e.class, e.replay_id, e.head, e.destination, e.sent, m.id IS NOT NULL,
    {columns}
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
        let due = DUE
            .replace("{columns}", &column::list())
            .replace("{heads}", &HEADS_MAX.to_string())
            .replace("{key_rows}", &KEY_ROWS_MAX.to_string())
            .replace("{limit}", &rows_max.to_string());
        Ok(Self {
            target: target.to_owned(),
            row_bytes_max,
            due: client.prepare(&schema.sql(&due)).await?,
            next_due: client.prepare(&schema.sql(NEXT_DUE)).await?,
            payloads: client.prepare(&schema.sql(PAYLOADS)).await?,
        })
    }

    /// Reads what is due, without the heads that are `in_hand`.
    pub(super) async fn read(&self, client: &Client, in_hand: &[i64]) -> Result<Due, ReadError> {
        let failed = |error| classify("reading what is due again", error);
        let next = client.query_opt(&self.next_due, &[&self.target]).await.map_err(failed)?;
        let next_due = next.map(|row| seconds(row.get(0)));
        let parameters: [&(dyn ToSql + Sync); 2] = [&self.target, &in_hand];
        let result = client.query_raw(&self.due, parameters).await.map_err(failed)?;
        pin_mut!(result);
        let (mut rows, mut ids) = (Vec::new(), HashSet::new());
        while let Some(row) = result.try_next().await.map_err(failed)? {
            let retry = RetryRow {
                message: None,
                id: row.get(0),
                key: row.get(1),
                holds: row.get(2),
                attempts: row.get::<_, i32>(3).unsigned_abs(),
                class: row.get(4),
                replay: row.get(5),
                head: row.get(6),
                destination: row.get(7),
                sent: row.get(8),
            };
            // Two due heads of one key, which nobody should have made, show each other.
            if !ids.insert(retry.id) {
                continue;
            }
            let body = match row.get(9) {
                true => Body::decode(retry.id, row, 10, self.row_bytes_max)?,
                false => Body::Gone,
            };
            rows.push((retry, body));
        }
        Ok(Due { rows, next_due })
    }
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
