//! The lock read: who may still commit an id that was drawn, and whether ids still mean what they meant.

use tokio_postgres::{Client, Error, Row, Statement};

use super::error::{ReadError, SourceError, classify};
use super::guard::LockRead;
use super::hole::Holder;
use crate::schema::{Schema, identity};

/// One statement, 0.3 ms. The holders' order and the order of `last_value` and `pg_locks` within it do
/// not matter to the proof. A waiting lock (not granted) has drawn nothing yet.
const LOCKS: &str = "
SELECT t.oid,
    CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - q.seqincrement END,
    q.seqcache, q.seqincrement, l.transactions, l.prepared
FROM (SELECT to_regclass('outbox.message')::oid AS oid) t
CROSS JOIN {sequence} s
JOIN pg_catalog.pg_sequence q ON q.seqrelid = '{sequence}'::regclass
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(l.virtualtransaction), '{}') AS transactions,
        coalesce(array_agg(l.pid IS NULL), '{}') AS prepared
    FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'relation' AND l.relation = t.oid AND l.mode = 'RowExclusiveLock' AND l.granted
        AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
) l";

/// The prepared lock read.
pub(super) struct Locks {
    statement: Statement,
}

impl Locks {
    pub(super) async fn prepare(client: &Client, schema: &Schema) -> Result<Self, ReadError> {
        let failed = |error| classify("preparing to read the locks", error);
        let sequence = identity::sequence(client, schema).await.map_err(failed)?;
        let sequence = sequence.ok_or_else(|| {
            SourceError::stopped(
                "message.id is not an identity column",
                "compare the table with `outbox-relay migrate --print`",
            )
        })?;
        // Quoted by PostgreSQL; the schema's name holds no character that a literal would escape.
        let text = schema.sql(LOCKS).replace("{sequence}", &sequence);
        Ok(Self { statement: client.prepare(&text).await.map_err(failed)? })
    }

    pub(super) async fn read(&self, client: &Client) -> Result<LockRead, ReadError> {
        let failed = |error| classify("reading the locks", error);
        let row = client.query_one(&self.statement, &[]).await.map_err(failed)?;
        read(&row).map_err(failed)
    }
}

fn read(row: &Row) -> Result<LockRead, Error> {
    let transactions: Vec<String> = row.try_get(4)?;
    let prepared: Vec<bool> = row.try_get(5)?;
    Ok(LockRead {
        table: row.try_get(0)?,
        last_value: row.try_get(1)?,
        cache: row.try_get(2)?,
        increment: row.try_get(3)?,
        holders: transactions
            .into_iter()
            .zip(prepared)
            .map(|(transaction, prepared)| Holder { transaction, prepared })
            .collect(),
    })
}
