//! The read: the head and every open hole in one statement, and thus in one snapshot.
//!
//! Two statements would reorder: a key's earlier row commits between them, and its later row is
//! already in the second snapshot. One snapshot in the order of ids shows the rows of a key, whose
//! writers hold a common lock before they insert, in the order of their commits.

use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::column::{self, Body};
use super::error::{ReadError, classify};
use crate::range::RangeSet;
use crate::schema::{Schema, identity};

/// Around one of the two texts below. The session's settings pin the plan (see `session`).
///
/// `held` looks at `retry_by_key`, once a read when nothing is held, else once a row. The ranges on
/// `r.key` and the ORDER BYs leave no other index to choose: with an equality and a key that a
/// million rows share, the primary key looked as good and walked them all, for every row.
/// Only rows with a lower id hold: after a crash an earlier row of a key may be pending while a later
/// one stands in `retry`. The lowest one tells, without a walk. NULL counts as false: it is the
/// cheaper one to send.
const READ: &str = "
SELECT m.id,
    CASE WHEN (
        SELECT true FROM outbox.retry r
        WHERE r.target = $2 AND r.holds ORDER BY r.key LIMIT 1
    ) THEN (
        SELECT r.id FROM outbox.retry r
        WHERE r.target = $2 AND r.holds AND r.key >= m.key AND r.key <= m.key
        ORDER BY r.key, r.id LIMIT 1
    ) < m.id END,
    {columns}
FROM ({rows}) m
ORDER BY m.id";

/// Above the head. The LIMIT is a literal: as a parameter it makes the generic plan a hundred times slower.
const HEAD: &str = "SELECT * FROM outbox.message WHERE id > $1 ORDER BY id LIMIT {limit}";

/// Few ids below the head, then above it.
const IDS_AND_HEAD: &str = "
(SELECT * FROM outbox.message WHERE id = ANY ($3::int8[]) ORDER BY id LIMIT {limit})
UNION ALL ({head}) ORDER BY id LIMIT {limit}";

/// Ranges of ids (ascending, half-open) below the head, then above it. WITH ORDINALITY tells the
/// planner that the ranges come in order, so that it stops at the limit instead of sorting all of them.
const RANGES_AND_HEAD: &str = "
(SELECT h.* FROM unnest($3::int8[], $4::int8[]) WITH ORDINALITY r (low, high, n)
 CROSS JOIN LATERAL (
     SELECT * FROM outbox.message WHERE id >= r.low AND id < r.high ORDER BY id LIMIT {limit}
 ) h
 ORDER BY r.n, h.id LIMIT {limit})
UNION ALL ({head}) ORDER BY id LIMIT {limit}";

/// Large payloads.
const PAYLOADS: &str = "SELECT id, payload FROM outbox.message WHERE id = ANY ($1::int8[])";

/// One id costs half of what a range of any length costs (0.6 and 1.1 µs), so single ids go as ids.
const IDS_PER_RANGE_MAX: u64 = 2;

/// A row that a read showed.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) id: i64,
    pub(super) held: bool,
}

/// The result of a read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) rows: Vec<(Meta, Body)>,
    /// There may be more.
    pub(super) cut: bool,
    /// Where the identity's sequence is stored: a restart moves it.
    pub(super) file: Option<u32>,
}

/// The prepared statements of the read.
pub(super) struct Poll {
    target: String,
    rows_max: usize,
    row_bytes_max: usize,
    head: Statement,
    ids: Statement,
    ranges: Statement,
    pub(super) payloads: Statement,
    file: Statement,
}

impl Poll {
    pub(super) async fn prepare(
        client: &Client,
        schema: &Schema,
        target: &str,
        rows_max: usize,
        row_bytes_max: usize,
    ) -> Result<Self, tokio_postgres::Error> {
        let text = |rows: &str| {
            let text = READ
                .replace("{columns}", &column::list())
                .replace("{rows}", rows)
                .replace("{head}", HEAD)
                .replace("{limit}", &rows_max.to_string());
            schema.sql(&text)
        };
        Ok(Self {
            target: target.to_owned(),
            rows_max,
            row_bytes_max,
            head: client.prepare(&text(HEAD)).await?,
            ids: client.prepare(&text(IDS_AND_HEAD)).await?,
            ranges: client.prepare(&text(RANGES_AND_HEAD)).await?,
            payloads: client.prepare(&schema.sql(PAYLOADS)).await?,
            file: client.prepare(&identity::file(client, schema).await?).await?,
        })
    }

    /// Reads what is visible of `holes` and above `hi`, the lowest ids first. Drains the result at
    /// once: a reader that stalls in mid-result holds a snapshot.
    pub(super) async fn read(
        &self,
        client: &Client,
        hi: i64,
        holes: &RangeSet,
    ) -> Result<Read, ReadError> {
        let failed = |error| classify("reading the outbox", error);
        let (mut low, mut high) = (Vec::new(), Vec::new());
        let statement = if holes.is_empty() {
            &self.head
        } else if holes.ids_len() <= holes.ranges_len() as u64 * IDS_PER_RANGE_MAX {
            low.extend(holes.iter().flatten());
            &self.ids
        } else {
            (low, high) = holes.iter().map(|range| (range.start, range.end)).unzip();
            &self.ranges
        };
        let all: [&(dyn ToSql + Sync); 4] = [&hi, &self.target, &low, &high];
        let parameters = all[..statement.params().len()].iter().map(|&p| p as &dyn ToSql);
        let rows = async {
            let result = client.query_raw(statement, parameters).await.map_err(failed)?;
            pin_mut!(result);
            let mut rows = Vec::new();
            while let Some(row) = result.try_next().await.map_err(failed)? {
                let held = row.get::<_, Option<bool>>(1) == Some(true);
                let meta = Meta { id: row.get(0), held };
                let body = Body::decode(meta.id, row, 2, self.row_bytes_max)?;
                rows.push((meta, body));
            }
            Ok(rows)
        };
        // Sent right behind the read, so whatever the read saw of a restarted identity is known with it.
        let file = async { client.query_opt(&self.file, &[]).await.map_err(failed) };
        let (rows, file) = tokio::try_join!(rows, file)?;
        let file = file.map(|row| row.get(0));
        Ok(Read { cut: rows.len() >= self.rows_max, rows, file })
    }
}
