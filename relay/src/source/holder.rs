//! Who keeps a hole open: the name behind a transaction, for people.

use tokio_postgres::{Client, Error, Row, Statement};

use super::error::{ReadError, classify};
use crate::schema::Schema;

/// Every transaction that may still commit ids of the outbox, as a table. `pg_stat_activity` shows other
/// roles' sessions only to pg_read_all_stats: without it the pid is all. A prepared transaction keeps the
/// virtualtransaction of its session; only its transaction id leads to its name.
pub(crate) const WRITERS: &str = "
SELECT l.virtualtransaction AS transaction, l.pid, p.gid AS prepared,
    nullif(a.application_name, '') AS application, host(a.client_addr) AS client,
    coalesce(a.usename::text, p.owner::text) AS usename, a.state,
    coalesce(a.xact_start, p.prepared) AS since
FROM pg_catalog.pg_locks l
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_locks x
    ON l.pid IS NULL AND x.locktype = 'transactionid' AND x.virtualtransaction = l.virtualtransaction
LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
WHERE l.locktype = 'relation' AND l.relation = to_regclass('outbox.message')
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
    AND l.mode = 'RowExclusiveLock' AND l.granted";

const HOLDER: &str = "
SELECT pid, application, usename, state,
    EXTRACT(EPOCH FROM statement_timestamp() - since)::float8, prepared
FROM ({writers}) w WHERE transaction = $1 LIMIT 1";

/// The transaction that has kept holes open for the longest time.
#[derive(Debug, Clone, PartialEq)]
pub struct HolderName {
    /// `pg_locks.virtualtransaction`
    pub transaction: String,
    /// Its backend; `None`: it is prepared.
    pub pid: Option<i32>,
    /// The name of the prepared transaction.
    pub gid: Option<String>,
    /// `pg_stat_activity.application_name`, with pg_read_all_stats.
    pub application_name: Option<String>,
    /// `pg_stat_activity.usename`, with pg_read_all_stats.
    pub user: Option<String>,
    /// `pg_stat_activity.state`, with pg_read_all_stats.
    pub state: Option<String>,
    /// Age of the transaction in seconds, with pg_read_all_stats.
    pub age_s: Option<f64>,
}

/// `backend 4711 (orders, idle in transaction)`, `prepared transaction "x"`.
impl std::fmt::Display for HolderName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.pid, &self.gid) {
            (Some(pid), _) => write!(f, "backend {pid}")?,
            (None, Some(gid)) => write!(f, "prepared transaction {gid:?}")?,
            (None, None) => write!(f, "transaction {}", self.transaction)?,
        }
        let known: Vec<&str> = [&self.application_name, &self.user, &self.state]
            .into_iter()
            .filter_map(|field| field.as_deref().filter(|text| !text.is_empty()))
            .collect();
        if !known.is_empty() {
            write!(f, " ({})", known.join(", "))?;
        }
        if let Some(age_s) = self.age_s {
            write!(f, ", open for {age_s:.0} s")?;
        }
        Ok(())
    }
}

/// The prepared look-up.
pub(super) struct Holders {
    statement: Statement,
}

impl Holders {
    pub(super) async fn prepare(
        client: &Client,
        schema: &Schema,
    ) -> Result<Self, tokio_postgres::Error> {
        let text = HOLDER.replace("{writers}", WRITERS);
        Ok(Self { statement: client.prepare(&schema.sql(&text)).await? })
    }

    /// `None` if it has just gone.
    pub(super) async fn name(
        &self,
        client: &Client,
        transaction: &str,
    ) -> Result<Option<HolderName>, ReadError> {
        let failed = |error| classify("naming who keeps holes open", error);
        let row = client.query_opt(&self.statement, &[&transaction]).await.map_err(failed)?;
        row.map(|row| HolderName::read(transaction, &row)).transpose().map_err(failed)
    }
}

impl HolderName {
    fn read(transaction: &str, row: &Row) -> Result<Self, Error> {
        Ok(Self {
            transaction: transaction.to_owned(),
            pid: row.try_get(0)?,
            application_name: row.try_get(1)?,
            user: row.try_get(2)?,
            state: row.try_get(3)?,
            age_s: row.try_get(4)?,
            gid: row.try_get(5)?,
        })
    }
}
