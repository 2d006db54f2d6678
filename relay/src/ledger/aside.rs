//! What stands in `retry` when a pipeline begins. There may be millions of rows, and no statement about
//! all of them would end within its time-out, or the lease within its own: everything goes in pieces,
//! and each answer is a ping.

use tokio_postgres::Statement;

use crate::database::{DatabaseError, Session};
use crate::lease::Lease;
use crate::schema::Schema;

/// Keys whose heads are made due by one statement: 0.35 s on a busy machine, and a lease has 1 s at least.
pub const PROMOTED_KEYS: i64 = 10_000;

/// Rows that one statement makes due: as many as a full mark writes, times five.
pub const RELEASED_ROWS: i64 = 10_000;

/// Rows that one statement counts: 50 ms of an index.
pub const COUNTED_ROWS: i64 = 100_000;

// From key to key along retry_by_key; the piece before ended at ($2, $3). A head that waits for a time
// of its own has one.
const PROMOTE: &str = "
WITH RECURSIVE head AS (
    (SELECT key, id, 1::bigint AS n FROM outbox.retry
     WHERE target = $1 AND holds AND (key, id) > ($2, $3) ORDER BY key, id LIMIT 1)
    UNION ALL
    SELECT next.key, next.id, head.n + 1
    FROM head, LATERAL (
        SELECT r.key, r.id FROM outbox.retry AS r
        WHERE r.target = $1 AND r.holds AND r.key > head.key
        ORDER BY r.key, r.id LIMIT 1
    ) AS next
    WHERE head.n < $4
), promoted AS (
    UPDATE outbox.retry SET next_at = clock_timestamp()
    FROM head
    WHERE retry.target = $1 AND retry.id = head.id AND retry.next_at IS NULL
)
SELECT key FROM head WHERE n = $4";

pub(super) const COUNT: &str = "
SELECT count(*), max(id)
FROM (SELECT id FROM outbox.retry WHERE target = $1 AND id > $2 ORDER BY id LIMIT $3) AS piece";

// Of what waits for one route, the lowest ids first. A row that is refused again is set aside by a
// later mark, so each is made due once.
const RELEASE: &str = "
WITH released AS (
    UPDATE outbox.retry SET next_at = clock_timestamp()
    WHERE target = $1 AND id = ANY (ARRAY(
        SELECT id FROM outbox.retry
        WHERE target = $1 AND destination = $2 AND next_at = 'infinity'
        ORDER BY id LIMIT $3
    ))
    RETURNING 1
)
SELECT count(*) FROM released";

/// What a beginning pipeline asks of `retry`, prepared.
#[derive(Debug)]
pub struct Aside {
    promote: Statement,
    count: Statement,
    release: Statement,
}

impl Aside {
    /// Prepares the statements.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn prepare(session: &Session, schema: &Schema) -> Result<Self, DatabaseError> {
        let [promote, count, release] = [PROMOTE, COUNT, RELEASE].map(|text| schema.sql(text));
        let prepared = session.deadline().answers(3, async {
            tokio::try_join!(
                session.prepare(&promote),
                session.prepare(&count),
                session.prepare(&release)
            )
        });
        let (promote, count, release) = prepared.await??;
        Ok(Self { promote, count, release })
    }

    /// Makes what waits for a route due, `rows_max` rows at a time: the routes have changed.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn release(
        &self,
        lease: &Lease,
        target: &str,
        name: &str,
        rows_max: i64,
    ) -> Result<u64, DatabaseError> {
        let mut total = 0;
        loop {
            let row = lease.query_opt(&self.release, &[&target, &name, &rows_max]).await?;
            let rows: i64 = row.expect("an aggregate has one row").try_get(0)?;
            total += rows.unsigned_abs();
            if rows < rows_max {
                return Ok(total);
            }
        }
    }

    /// Makes the head of every key due that is not, `keys_max` at a time: a crash may have come between
    /// a mark and that.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn promote(
        &self,
        lease: &Lease,
        target: &str,
        keys_max: i64,
    ) -> Result<(), DatabaseError> {
        // Before every key: '' is the lowest, and no id is 0. Then behind all rows of the last one.
        let (mut key, mut id) = (String::new(), 0_i64);
        while let Some(row) =
            lease.query_opt(&self.promote, &[&target, &key, &id, &keys_max]).await?
        {
            (key, id) = (row.try_get(0)?, i64::MAX);
        }
        Ok(())
    }

    /// How many rows a target has in `retry`, counted `rows_max` at a time.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn count(
        &self,
        lease: &Lease,
        target: &str,
        rows_max: i64,
    ) -> Result<u64, DatabaseError> {
        count(&self.count, lease, target, rows_max).await
    }
}

/// Counts by the prepared [`COUNT`].
pub(super) async fn count(
    statement: &Statement,
    lease: &Lease,
    target: &str,
    rows_max: i64,
) -> Result<u64, DatabaseError> {
    // A requeued message keeps its id, and ids begin at 1.
    let (mut total, mut last) = (0, 0_i64);
    loop {
        let row = lease.query_opt(statement, &[&target, &last, &rows_max]).await?;
        let row = row.expect("an aggregate has one row");
        let rows: i64 = row.try_get(0)?;
        total += rows.unsigned_abs();
        match row.try_get(1)? {
            Some(id) if rows == rows_max => last = id,
            _ => return Ok(total),
        }
    }
}
