//! Other sessions, as far as this one may see them: who holds a lock, who keeps a hole open.

use std::fmt;

use serde::Serialize;
use time::OffsetDateTime;
use tokio_postgres::{Error, GenericClient, Row};

use crate::schema::Schema;
use crate::source::WRITERS;

/// Holders listed at most; the oldest come first and are the ones that matter.
pub const WRITERS_LISTED_MAX: i64 = 10;

/// A session, or a prepared transaction (which has no pid). Without `pg_read_all_stats` only the
/// pid is known of other roles' sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// `None`: a prepared transaction.
    pub pid: Option<i32>,
    /// The gid of the prepared transaction.
    pub prepared: Option<String>,
    /// `application_name`.
    pub application: Option<String>,
    /// The address it comes from; `None` for a Unix socket.
    pub client: Option<String>,
    /// The role.
    pub user: Option<String>,
    /// `active`, `idle in transaction`, …
    pub state: Option<String>,
    /// When its transaction began (for a lock: when the session did).
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
}

/// A session that holds a lock of the relays' and is none of theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Intruder {
    /// What the lock is for: a target, or `@keeper`.
    pub lock: String,
    /// Who holds it.
    pub backend: Backend,
}

impl Intruder {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        let pid = self.backend.pid.map_or_else(String::new, |pid| pid.to_string());
        format!(
            "SELECT pg_terminate_backend({pid}), and take the right to connect to this database \
             from its role: any login can take an advisory lock"
        )
    }
}

impl fmt::Display for Intruder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lock.as_str() {
            "@keeper" => f.write_str("the keeper's lock")?,
            target => write!(f, "the lease of target {target}")?,
        }
        write!(f, " is held by {}, whose role is no relay's", self.backend)
    }
}

impl Backend {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            pid: row.try_get("pid")?,
            prepared: row.try_get("prepared")?,
            application: row.try_get("application")?,
            client: row.try_get("client")?,
            user: row.try_get("usename")?,
            state: row.try_get("state")?,
            since: row.try_get("since")?,
        })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.prepared) {
            (Some(pid), _) => write!(f, "pid {pid}")?,
            (None, Some(gid)) => write!(f, "prepared transaction {gid:?}")?,
            (None, None) => f.write_str("a prepared transaction")?,
        }
        for (name, value) in [
            ("application", &self.application),
            ("user", &self.user),
            ("client", &self.client),
            ("state", &self.state),
        ] {
            if let Some(value) = value {
                write!(f, ", {name} {value}")?;
            }
        }
        if let Some(since) = self.since {
            write!(f, ", since {}", super::rfc3339(since))?;
        }
        Ok(())
    }
}

// An advisory lock of two int4 stands in pg_locks as (classid, objid) with objsubid 2, both read as
// unsigned. The view of the sessions hides everything but the pid from a role that is neither a
// member of pg_read_all_stats nor of the session's own role; an empty application_name is its NULL.
const LOCK_HOLDER: &str = "
SELECT lock.pid, NULL::text AS prepared, nullif(activity.application_name, '') AS application,
       host(activity.client_addr) AS client, activity.usename::text, activity.state,
       activity.backend_start AS since
FROM outbox.lock_key($1) AS key
JOIN pg_locks AS lock
  ON lock.locktype = 'advisory' AND lock.objsubid = 2 AND lock.granted
 AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
 AND lock.classid::bigint = key.k1::bigint & 4294967295
 AND lock.objid::bigint = key.k2::bigint & 4294967295
LEFT JOIN pg_stat_activity AS activity USING (pid)
WHERE lock.mode = 'ExclusiveLock'
LIMIT 1";

// A relay's role may write to the ledger; any login may take any advisory lock. A session's role is
// visible to everybody.
const INTRUDERS: &str = "
SELECT name.lock, lock.pid, NULL::text AS prepared,
       nullif(activity.application_name, '') AS application, host(activity.client_addr) AS client,
       activity.usename::text, activity.state, activity.backend_start AS since
FROM unnest($1::text[]) AS name (lock)
CROSS JOIN outbox.lock_key(name.lock) AS key
JOIN pg_locks AS lock
  ON lock.locktype = 'advisory' AND lock.objsubid = 2 AND lock.granted
 AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
 AND lock.classid::bigint = key.k1::bigint & 4294967295
 AND lock.objid::bigint = key.k2::bigint & 4294967295
JOIN pg_stat_activity AS activity USING (pid)
WHERE NOT coalesce(has_table_privilege(
    activity.usesysid, to_regclass('outbox.ledger')::oid, 'UPDATE'
), true)
ORDER BY name.lock, lock.pid";

/// Who holds the locks of these targets, or the keeper's, without a relay's rights.
///
/// # Errors
/// The database's.
pub async fn intruders<'a>(
    client: &impl GenericClient,
    schema: &Schema,
    targets: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Intruder>, Error> {
    let names: Vec<&str> = targets.into_iter().chain(["@keeper"]).collect();
    let rows = client.query(&schema.sql(INTRUDERS), &[&names]).await?;
    let intruder =
        |row: &Row| Ok(Intruder { lock: row.try_get("lock")?, backend: Backend::from_row(row)? });
    rows.iter().map(intruder).collect()
}

const OLDEST_WRITERS: &str = "
SELECT pid, prepared, application, client, usename, state, since
FROM ({writers}) AS w WHERE pid IS DISTINCT FROM pg_backend_pid()
ORDER BY since NULLS LAST, pid
LIMIT $1";

/// Who holds the advisory lock of that name: a target's lease, or `@keeper`.
///
/// # Errors
/// The database's.
pub async fn lock_holder(
    client: &impl GenericClient,
    schema: &Schema,
    name: &str,
) -> Result<Option<Backend>, Error> {
    let row = client.query_opt(&schema.sql(LOCK_HOLDER), &[&name]).await?;
    row.as_ref().map(Backend::from_row).transpose()
}

/// The open transactions that wrote to the outbox, oldest first, at most [`WRITERS_LISTED_MAX`].
///
/// # Errors
/// The database's.
pub async fn writers(client: &impl GenericClient, schema: &Schema) -> Result<Vec<Backend>, Error> {
    let text = schema.sql(&OLDEST_WRITERS.replace("{writers}", WRITERS));
    let rows = client.query(&text, &[&WRITERS_LISTED_MAX]).await?;
    rows.iter().map(Backend::from_row).collect()
}
