//! The relays of one outbox: who else is there, and what each of them should lead.
//!
//! Every process holds, for each of its targets, a shared advisory lock; the server's list of locks
//! says how many hold it. That is all they know of each other: there is no leader of relays, and no
//! table of them. The locks end with their session, and a process that hangs loses it as it loses a
//! lease. While it cannot be known who is there, everybody takes what is free and keeps it.

mod share;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_postgres::{Client, Error, Row, Statement};
use tokio_util::sync::CancellationToken;

use self::share::Balance;
pub use self::share::{Relays, share};
use crate::cause::Cause;
use crate::config::{DatabaseConfig, LeaseConfig};
use crate::database::{DatabaseError, Session};
use crate::schema::Schema;

/// In pg_stat_activity.
const SESSION_NAME: &str = "outbox-relay member";

/// A lost session is tried again this often. Nobody waits for it: without it relays lead what they
/// lead.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// A relay that ends says so, for at most this long.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// This process among the relays: run once, beside the pipelines.
#[derive(Debug)]
pub struct Membership {
    database: DatabaseConfig,
    schema: Schema,
    lease: LeaseConfig,
    targets: Vec<String>,
    relays: watch::Sender<Option<Relays>>,
    leading: Leading,
}

/// A pipeline's end of the membership.
#[derive(Debug, Clone)]
pub struct Member {
    relays: watch::Receiver<Option<Relays>>,
    leading: Leading,
}

/// What this process leads, and how each is asked to hand over.
type Leading = Arc<Mutex<BTreeMap<String, CancellationToken>>>;

/// A pipeline is led by this process as long as this lives.
#[derive(Debug)]
pub struct Led {
    name: String,
    hand_over: CancellationToken,
    leading: Leading,
}

impl Membership {
    /// Not a member yet, and the handle to clone for each pipeline.
    #[must_use]
    pub fn new(
        database: DatabaseConfig,
        schema: Schema,
        lease: LeaseConfig,
        targets: Vec<String>,
    ) -> (Self, Member) {
        let (relays, receiver) = watch::channel(None);
        let leading = Leading::default();
        let member = Member { relays: receiver, leading: Arc::clone(&leading) };
        (Self { database, schema, lease, targets, relays, leading }, member)
    }

    /// Is a member until `leave`, and again after every loss of the session.
    ///
    /// Cancel safety: dropped at any point, the server ends the membership with the session.
    pub async fn run(self, leave: CancellationToken) {
        let mut told = None;
        while !leave.is_cancelled() {
            let since = Instant::now();
            if let Err(error) = self.session(&leave).await {
                let error = Cause::of(&error).to_string();
                // A right that is missing is missing at every try: that is news once.
                if since.elapsed() > RECONNECT_PAUSE || told.as_ref() != Some(&error) {
                    tracing::warn!(error, "not known who else relays: keeping what is led");
                    told = Some(error);
                }
            }
            self.relays.send_replace(None);
            leave.run_until_cancelled(tokio::time::sleep(RECONNECT_PAUSE)).await;
        }
    }

    async fn session(&self, leave: &CancellationToken) -> Result<(), DatabaseError> {
        let changed = Arc::new(Notify::new());
        let notice = Arc::clone(&changed);
        let session =
            Session::connect_notified(&self.database, SESSION_NAME, move |_| notice.notify_one());
        let session = session.await?;
        let joined = self.join(&session);
        let Some(statement) = leave.run_until_cancelled(joined).await else { return Ok(()) };
        let statement = statement?;
        tokio::select! {
            error = self.watch(&session, &statement, &changed) => error.map(|never| match never {}),
            () = leave.cancelled() => {
                // The others need not wait for the server to notice.
                let leave = self.schema.sql(&LEAVE.replace("{channel}", &self.schema.free_channel()));
                let _ = tokio::time::timeout(LEAVE_TIMEOUT, session.batch_execute(&leave)).await;
                Ok(())
            }
        }
    }

    async fn join(&self, session: &Session) -> Result<Statement, DatabaseError> {
        let channel = self.schema.free_channel();
        let ttl = self.lease.ttl.as_millis();
        let settings = format!("LISTEN \"{channel}\"; SET idle_session_timeout = {ttl}");
        session.batch_execute(&settings).await?;
        session.query(&self.schema.sql(JOIN), &[&self.targets]).await?;
        session.batch_execute(&format!("NOTIFY \"{channel}\"")).await?;
        Ok(session.prepare(&self.schema.sql(COUNT)).await?)
    }

    async fn watch(
        &self,
        session: &Session,
        count: &Statement,
        changed: &Notify,
    ) -> Result<Infallible, DatabaseError> {
        let mut balance = Balance::new(self.lease.rebalance_interval, Instant::now());
        loop {
            // A server that is silent for as long as a lease says nothing of who is there.
            let rows = tokio::time::timeout(self.lease.ttl, session.query(count, &[&self.targets]))
                .await
                .map_err(|_| DatabaseError::Unavailable("no answer".into()))??;
            let relays = relays(&rows)?;
            self.relays.send_if_modified(|known| {
                let news = known.as_ref() != Some(&relays);
                if news {
                    tracing::debug!(?relays, share = share(&relays), "relays");
                    *known = Some(relays.clone());
                }
                news
            });
            let pause = self.balance(&mut balance, &relays);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = changed.notified() => {}
            }
        }
    }

    /// Hands over what is too much; returns when to look again.
    fn balance(&self, balance: &mut Balance, relays: &Relays) -> Duration {
        let leading = lock(&self.leading);
        let names = leading.keys().cloned().collect();
        if let Some(name) = balance.decide(Instant::now(), relays, &names) {
            let share = share(relays);
            tracing::info!(target_name = name, leading = names.len(), share, "handing over");
            leading[&name].cancel();
        }
        // A standby wants to know at once that another relay is gone.
        let lease = &self.lease;
        let standby = leading.len() < self.targets.len();
        lease.ping_interval.min(if standby { lease.standby_interval } else { Duration::MAX })
    }
}

impl Member {
    /// Whether this process leads less than its share: then it may take at once what is free. Else it
    /// leaves the first chance to the others.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let leading = lock(&self.leading).len();
        self.relays.borrow().as_ref().is_none_or(|relays| leading < share(relays))
    }

    /// This process leads `name` from now on.
    #[must_use]
    pub fn lead(&self, name: &str) -> Led {
        let hand_over = CancellationToken::new();
        lock(&self.leading).insert(name.to_owned(), hand_over.clone());
        Led { name: name.to_owned(), hand_over, leading: Arc::clone(&self.leading) }
    }

    /// Waits until the relays have changed.
    ///
    /// Cancel safety: a change stays until the next call.
    pub async fn changed(&mut self) {
        if self.relays.changed().await.is_err() {
            // The process ends.
            std::future::pending().await
        }
    }
}

impl Led {
    /// Waits until this process is to hand the pipeline over.
    ///
    /// Cancel safety: yes.
    pub async fn hand_over(&self) {
        self.hand_over.cancelled().await;
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        lock(&self.leading).remove(&self.name);
    }
}

fn lock(leading: &Leading) -> MutexGuard<'_, BTreeMap<String, CancellationToken>> {
    leading.lock().unwrap_or_else(PoisonError::into_inner)
}

fn relays(rows: &[Row]) -> Result<Relays, Error> {
    let count =
        |row: &Row| Ok((row.try_get(0)?, usize::try_from(row.try_get::<_, i64>(1)?).unwrap_or(0)));
    rows.iter().map(count).collect()
}

/// How many relays there are for each of these targets.
///
/// # Errors
/// The database's.
pub async fn count(client: &Client, schema: &Schema, targets: &[String]) -> Result<Relays, Error> {
    relays(&client.query(&schema.sql(COUNT), &[&targets]).await?)
}

// `@` and `/`: no target, and no other lock, has such a name.
const JOIN: &str = "
SELECT pg_try_advisory_lock_shared(key.k1, key.k2)
FROM unnest($1::text[]) AS target (name), outbox.lock_key('@relay/' || target.name) AS key";

// A key of two numbers shows as classid, objid and 2. Any login can take such a lock: only roles with
// a relay's rights count.
const COUNT: &str = "
SELECT target.name, count(held.pid) FILTER (WHERE has_table_privilege(
    activity.usesysid, to_regclass('outbox.ledger')::oid, 'UPDATE'
))
FROM unnest($1::text[]) AS target (name)
CROSS JOIN outbox.lock_key('@relay/' || target.name) AS key
LEFT JOIN pg_locks AS held
    ON held.locktype = 'advisory' AND held.objsubid = 2 AND held.mode = 'ShareLock' AND held.granted
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND held.classid = key.k1::oid AND held.objid = key.k2::oid
LEFT JOIN pg_stat_activity AS activity ON activity.pid = held.pid
GROUP BY target.name";

const LEAVE: &str = "SELECT pg_advisory_unlock_all(); NOTIFY \"{channel}\"";
