//! The read: the head and every open hole in one statement, and thus in one snapshot.
//!
//! Two statements would reorder: a key's earlier row commits between them, and its later row is
//! already in the second snapshot. One snapshot in the order of ids shows the rows of a key, whose
//! writers hold a common lock before they insert, in the order of their commits.

use std::collections::HashMap;

use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::apart::{read_apart, remains};
use super::column::{self, Body};
use super::error::{ReadError, SourceError, classify};
use crate::database::Session;
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
    ) < m.id END{columns}
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

/// Whole rows by their ids, where a read of all of them fails.
const BY_ID: &str = "SELECT m.id{columns} FROM outbox.message m WHERE m.id = ANY ($1::int8[])";

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
    schema: Schema,
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
        let columns = columns();
        let text = |rows: &str| schema.sql(&text(rows, &columns, rows_max));
        Ok(Self {
            schema: schema.clone(),
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
        let asked = Asked::new(holes);
        let statement = match asked.rows {
            HEAD => &self.head,
            IDS_AND_HEAD => &self.ids,
            _ => &self.ranges,
        };
        let all = asked.parameters(&hi, &self.target);
        let parameters = all[..statement.params().len()].iter().map(|&p| p as &dyn ToSql);
        let rows = async {
            let result = client.query_raw(statement, parameters).await.map_err(failed)?;
            pin_mut!(result);
            let mut rows = Vec::new();
            while let Some(row) = result.try_next().await.map_err(failed)? {
                let meta = Meta::of(&row).map_err(failed)?;
                let body = Body::decode(meta.id, row, 2, self.row_bytes_max);
                rows.push((meta, body));
            }
            Ok(rows)
        };
        // Sent right behind the read, so whatever the read saw of a restarted identity is known with it.
        let (rows, file) = tokio::try_join!(rows, self.file(client))?;
        Ok(Read { cut: rows.len() >= self.rows_max, rows, file })
    }

    /// The same where a row among them cannot be read: which rows there are is asked in one snapshot
    /// (with fewer of them, should even that fail), and each is then read by its id.
    pub(super) async fn read_apart(
        &self,
        client: &Session,
        hi: i64,
        holes: &RangeSet,
    ) -> Result<Read, ReadError> {
        let asked = Asked::new(holes);
        let mut rows_max = self.rows_max;
        let metas = loop {
            match self.metas(client, hi, &asked, rows_max).await {
                Ok(metas) => break metas,
                Err(ReadError::Row(_)) if rows_max > 1 => rows_max /= 2,
                Err(ReadError::Row(failure)) => return Err(failure.stopped().into()),
                Err(error) => return Err(error),
            }
        };
        let file = client.deadline().answer(self.file(client)).await??;
        let cut = metas.len() >= rows_max;
        let ids: Vec<i64> = metas.iter().map(|meta| meta.id).collect();
        let what = "reading rows of the outbox one by one";
        let text = self.schema.sql(&BY_ID.replace("{columns}", &columns()));
        let prepared = client.deadline().answer(client.prepare(&text)).await?;
        let statement = prepared.map_err(|error| classify(what, error))?;
        let apart = read_apart(client, what, &statement, &ids, &[]).await?;
        let mut bodies = HashMap::new();
        for row in apart.rows {
            let id = row.try_get(0).map_err(|error| classify(what, error))?;
            bodies.insert(id, Body::decode(id, row, 1, self.row_bytes_max));
        }
        for (id, reason) in apart.unreadable {
            let message = remains(client, &self.schema, &self.target, id, &reason).await?;
            bodies.insert(id, Body::Ready(message));
        }
        let rows: Option<Vec<_>> = metas
            .into_iter()
            .map(|meta| bodies.remove(&meta.id).map(|body| (meta, body)))
            .collect();
        let rows = rows.ok_or_else(|| SourceError::Lost {
            what: "a row was deleted while it was being read".to_owned(),
            error: None,
        })?;
        Ok(Read { cut, rows, file })
    }

    /// Which rows a read shows, without a column that the server would have to send.
    async fn metas(
        &self,
        client: &Session,
        hi: i64,
        asked: &Asked,
        rows_max: usize,
    ) -> Result<Vec<Meta>, ReadError> {
        let failed = |error| classify("reading the outbox", error);
        let text = self.schema.sql(&text(asked.rows, "", rows_max));
        let all = asked.parameters(&hi, &self.target);
        let rows = async {
            let statement = client.prepare(&text).await?;
            client.query(&statement, &all[..statement.params().len()]).await
        };
        let rows = client.deadline().answers(2, rows).await?.map_err(failed)?;
        rows.iter().map(|row| Meta::of(row).map_err(failed)).collect()
    }

    async fn file(&self, client: &Client) -> Result<Option<u32>, ReadError> {
        let failed = |error| classify("reading the outbox", error);
        let file = client.query_opt(&self.file, &[]).await.map_err(failed)?;
        file.map(|row| row.try_get(0)).transpose().map_err(failed)
    }
}

impl Meta {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let held = row.try_get::<_, Option<bool>>(1)? == Some(true);
        Ok(Self { id: row.try_get(0)?, held })
    }
}

/// Which rows are asked for: the text for them, and the holes as its parameters.
struct Asked {
    rows: &'static str,
    low: Vec<i64>,
    high: Vec<i64>,
}

impl Asked {
    fn new(holes: &RangeSet) -> Self {
        if holes.is_empty() {
            Self { rows: HEAD, low: Vec::new(), high: Vec::new() }
        } else if holes.ids_len() <= holes.ranges_len() as u64 * IDS_PER_RANGE_MAX {
            Self { rows: IDS_AND_HEAD, low: holes.iter().flatten().collect(), high: Vec::new() }
        } else {
            let (low, high) = holes.iter().map(|range| (range.start, range.end)).unzip();
            Self { rows: RANGES_AND_HEAD, low, high }
        }
    }

    /// $1 to $4; a text takes those that it names.
    fn parameters<'a>(&'a self, hi: &'a i64, target: &'a String) -> [&'a (dyn ToSql + Sync); 4] {
        [hi, target, &self.low, &self.high]
    }
}

fn columns() -> String {
    format!(",\n    {}", column::list())
}

fn text(rows: &str, columns: &str, rows_max: usize) -> String {
    READ.replace("{columns}", columns)
        .replace("{rows}", rows)
        .replace("{head}", HEAD)
        .replace("{limit}", &rows_max.to_string())
}
