//! The lease: one session holds the pipeline's lock and runs every mark.
//!
//! A mark can only commit while the lock is held, each mark is a ping, and a predecessor cannot mark
//! after its successor began. `idle_session_timeout` makes it a lease on the database's clock: a
//! process that hangs loses its session, where a bare lock would be held for ever.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::types::{ToSql, Type};

use crate::config::LeaseConfig;
use crate::database::{DatabaseError, Session, Silent};
use crate::schema::Schema;

/// The session that holds the lock of one pipeline.
#[derive(Debug)]
pub struct Lease {
    session: Session,
    clock: LeaseClock,
}

impl Lease {
    /// Tries the lock of `name`: the clock of the lease if it was free, `None` if another holds it.
    ///
    /// It is never waited for: a waiting statement would hold a snapshot. Statements sent behind it on the session run
    /// once it is held.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    ///
    /// Cancel safety: whether it was taken is then unknown; the session must go.
    pub async fn try_take(
        session: &Session,
        schema: &Schema,
        name: &str,
        config: &LeaseConfig,
    ) -> Result<Option<LeaseClock>, DatabaseError> {
        let clock = LeaseClock::new(config.ttl);
        let (text, ttl_ms) = (schema.sql(TRY_LOCK), config.ttl.as_millis().to_string());
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&name, Type::TEXT), (&ttl_ms, Type::TEXT)];
        let tried = session.query_typed_one(&text, &parameters);
        let taken: bool = session.deadline().answer(tried).await??.try_get(0)?;
        Ok(taken.then_some(clock))
    }

    /// The lease that `try_take` took on `session`.
    #[must_use]
    pub fn new(session: Session, clock: LeaseClock) -> Self {
        Self { session, clock }
    }

    /// The session, for a statement that counts as a ping when it is answered.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session, for a transaction.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// The clock that says whether the lease can still be ours.
    #[must_use]
    pub fn clock(&self) -> LeaseClock {
        self.clock.clone()
    }

    /// Shows the database that this process is alive.
    ///
    /// # Errors
    /// See [`DatabaseError`]; `Unavailable` also when no answer came for the length of the lease.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        let sent = Instant::now();
        answer(&self.clock, self.session.batch_execute("SELECT")).await?;
        self.clock.answered(sent);
        Ok(())
    }

    /// Lets the lock go, and wakes the standbys; the lease is of no further use. What was sent on the session before
    /// is carried out first, answered or not.
    ///
    /// # Errors
    /// See [`DatabaseError`]; the server frees the lock with the session all the same.
    pub async fn release(&self, schema: &Schema, name: &str) -> Result<(), DatabaseError> {
        let (text, channel) = (schema.sql(UNLOCK), schema.free_channel());
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&name, Type::TEXT), (&channel, Type::TEXT)];
        self.session.query_typed(&text, &parameters).await?;
        Ok(())
    }

    /// Runs a statement; its answer renews the lease from the moment it was sent.
    ///
    /// # Errors
    /// The database's; `Unavailable` also when no answer came for the length of the lease. Whether the
    /// statement was carried out is then unknown.
    pub async fn query_opt(
        &self,
        statement: &tokio_postgres::Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<tokio_postgres::Row>, DatabaseError> {
        let sent = Instant::now();
        let row = answer(&self.clock, self.session.query_opt(statement, parameters)).await?;
        self.clock.answered(sent);
        Ok(row)
    }
}

// The lock is let go while the statement runs, the notice goes out behind it.
const UNLOCK: &str = "
SELECT pg_advisory_unlock(key.k1, key.k2), pg_notify($2, $1) FROM outbox.lock_key($1) AS key";

/// After the length of the lease the lock may be another's: waiting on would be waiting for nothing,
/// perhaps for ever (a stopped server, a proxy that leads nowhere).
async fn answer<T>(
    clock: &LeaseClock,
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, DatabaseError> {
    match tokio::time::timeout(clock.ttl, statement).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Silent.into()),
    }
}

// With the lock comes what ends it, in one statement: a process that hung in between would hold it for ever.
//
// Losing the last marks in a crash of the server only sends those messages again; waiting for the disk
// at each mark would cost every outbox its speed. Without sequential scans a mark is a Tid Scan also
// while the ledger is one page and that looks as cheap.
const TRY_LOCK: &str = "
WITH tried AS MATERIALIZED (
    SELECT pg_try_advisory_lock(key.k1, key.k2) AS taken FROM outbox.lock_key($1) AS key
)
SELECT taken,
       CASE WHEN taken THEN set_config('idle_session_timeout', $2, false) END,
       CASE WHEN taken THEN set_config('synchronous_commit', 'off', false) END,
       CASE WHEN taken THEN set_config('enable_seqscan', 'off', false) END
FROM tried";

/// When the lease was last renewed, as this process can prove it: counted from the *sending* of the
/// last statement that was answered, since the server's idle clock started no earlier.
#[derive(Debug, Clone)]
pub struct LeaseClock {
    base: Instant,
    /// Milliseconds since `base`.
    renewed_ms: Arc<AtomicU64>,
    ttl: Duration,
}

impl LeaseClock {
    fn new(ttl: Duration) -> Self {
        Self { base: Instant::now(), renewed_ms: Arc::default(), ttl }
    }

    fn answered(&self, sent: Instant) {
        let ms = sent.saturating_duration_since(self.base).as_millis();
        self.renewed_ms.fetch_max(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Publishing stops at half of the lease, long before another can take it.
    #[must_use]
    pub fn may_publish(&self, now: Instant) -> bool {
        now < self.publish_until()
    }

    /// Until when publishing is allowed if no statement is answered meanwhile.
    #[must_use]
    pub fn publish_until(&self) -> Instant {
        let renewed = Duration::from_millis(self.renewed_ms.load(Ordering::Relaxed));
        self.base + renewed + self.ttl / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_stops_at_half_the_lease_counted_from_the_sending() {
        let clock = LeaseClock::new(Duration::from_secs(4));
        let sent = clock.base + Duration::from_secs(1);
        assert!(clock.may_publish(clock.base + Duration::from_millis(1_999)));
        assert!(!clock.may_publish(clock.base + Duration::from_secs(2)));
        clock.answered(sent);
        assert!(clock.may_publish(sent + Duration::from_millis(1_999)));
        assert!(!clock.may_publish(sent + Duration::from_secs(2)));
    }
}
