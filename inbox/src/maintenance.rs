//! Keeping the inbox ready and small: partitions ahead, a rising horizon, expired partitions and rows.
//!
//! The inbox stops taking messages when the partitions ahead run out, so run this in a daemon, a job, or
//! by SQL (`outbox.inbox_maintain`), and watch [`Stats`].

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use crate::schema::Schema;

mod stats;

pub use stats::{Stats, gauge, stats};

/// Longer than any redelivery, dead letter or replay that goes without a person's planning, in days.
pub const DEFAULT_RETENTION_DAYS: u32 = 14;
/// So long may the maintenance be dead before the inbox stops, in days.
pub const DEFAULT_AHEAD_DAYS: u32 = 7;
/// A handler that runs longer holds one partition up until the next run, and nobody else.
pub const DEFAULT_DETACH_TIMEOUT: Duration = Duration::from_secs(60);
/// Rows that one transaction deletes.
const EXPIRE_ROWS_MAX: i32 = 5_000;

/// What the maintenance keeps to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// So long a processed message is remembered, at least 1. Longer than anything that may bring it again.
    pub retention_days: u32,
    /// So many days from today on have their partition.
    pub ahead_days: u32,
    /// The longest wait for handlers that are in a partition which is to go.
    pub detach_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retention_days: DEFAULT_RETENTION_DAYS,
            ahead_days: DEFAULT_AHEAD_DAYS,
            detach_timeout: DEFAULT_DETACH_TIMEOUT,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Partitions that were made.
    pub made: u32,
    /// Partitions that went.
    pub dropped: Vec<String>,
    /// A partition that somebody is in: it goes at a later run.
    pub waiting: Option<String>,
    /// Ids without a day that went.
    pub undated: u64,
    /// Failures that nobody tried again.
    pub failures: u64,
    /// Idempotency keys that went.
    pub idempotency_keys: u64,
}

/// One run. `None`: another one is at it. The connection should be the run's own: its time-outs are
/// set, and put back where nothing fails.
///
/// Cancel safety: yes. A partition that was being detached is left half-way, and the next run goes on.
///
/// # Errors
/// The database's. What was done before stays.
pub async fn maintain(
    client: &Client,
    schema: &Schema,
    settings: &Settings,
) -> Result<Option<Report>, Error> {
    let key = format!("outbox-inbox maintain {schema}");
    let lock = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))";
    if !client.query_one(lock, &[&key]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let report = maintain_alone(client, schema, settings).await;
    let unlock = "SELECT pg_advisory_unlock(hashtextextended($1, 0))";
    // A connection that is lost has let it go.
    let unlocked = client.execute(unlock, &[&key]).await;
    let report = report?;
    unlocked?;
    Ok(Some(report))
}

async fn maintain_alone(
    client: &Client,
    schema: &Schema,
    settings: &Settings,
) -> Result<Report, Error> {
    let days = |days: u32| i32::try_from(days).unwrap_or(i32::MAX);
    let (retention, ahead) = (days(settings.retention_days), days(settings.ahead_days));
    let mut report = Report::default();
    // First what the consumers cannot do without.
    let today = "(now() AT TIME ZONE 'UTC')::date";
    let ensure =
        schema.sql(&format!("SELECT outbox.inbox_ensure({today} - $1::int, {today} + $2::int)"));
    let made: i32 = client.query_one(&ensure, &[&retention, &ahead]).await?.try_get(0)?;
    report.made = u32::try_from(made).unwrap_or(0);

    let expired = schema.sql(
        "SELECT expired.name, expired.state
         FROM outbox.inbox_raise_horizon($1) AS before, LATERAL outbox.inbox_expired(before) AS expired",
    );
    let expired = client.query(&expired, &[&retention]).await?;
    if !expired.is_empty() {
        let text = "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')";
        let row = client.query_one(text, &[]).await?;
        let before: (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let timeout = format!("{}ms", settings.detach_timeout.as_millis().max(1));
        set_timeouts(client, &timeout, &timeout).await?;
        for row in expired {
            let (name, state): (String, &str) = (row.try_get(0)?, row.try_get(1)?);
            match remove(client, schema, &name, state).await {
                Ok(()) => report.dropped.push(name),
                // One detach may be pending at a time: those behind it wait as well.
                Err(error) if is_wait(&error) => {
                    report.waiting = Some(name);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        set_timeouts(client, &before.0, &before.1).await?;
    }
    expire(client, schema, retention, &mut report).await?;
    Ok(report)
}

async fn set_timeouts(client: &Client, lock: &str, statement: &str) -> Result<(), Error> {
    let text =
        "SELECT set_config('lock_timeout', $1, false), set_config('statement_timeout', $2, false)";
    client.execute(text, &[&lock, &statement]).await.map(|_| ())
}

/// Detaches without holding up a claim, then drops what is nobody's any more. Each statement is a
/// transaction of its own, and a later run begins where this one ended.
async fn remove(client: &Client, schema: &Schema, name: &str, state: &str) -> Result<(), Error> {
    // The name comes from the catalogue and is `inbox_` with digits.
    let table = schema.sql(&format!("outbox.{name}"));
    let inbox = schema.sql("outbox.inbox");
    let detach = match state {
        "attached" => Some("CONCURRENTLY"),
        "pending" => Some("FINALIZE"),
        _ => None,
    };
    if let Some(how) = detach {
        let text = format!("ALTER TABLE {inbox} DETACH PARTITION {table} {how}");
        client.batch_execute(&text).await?;
    }
    client.batch_execute(&format!("DROP TABLE {table}")).await
}

async fn expire(
    client: &Client,
    schema: &Schema,
    retention: i32,
    report: &mut Report,
) -> Result<(), Error> {
    let text =
        schema.sql("SELECT undated, failures, idempotency_keys FROM outbox.inbox_expire($1, $2)");
    loop {
        let row = client.query_one(&text, &[&retention, &EXPIRE_ROWS_MAX]).await?;
        let deleted: [i32; 3] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?];
        let [undated, failures, keys] = deleted.map(|n| u64::try_from(n).unwrap_or(0));
        report.undated += undated;
        report.failures += failures;
        report.idempotency_keys += keys;
        if deleted.iter().all(|&n| n < EXPIRE_ROWS_MAX) {
            return Ok(());
        }
    }
}

/// A handler is in it, or another detach is half-way.
fn is_wait(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(
            &SqlState::LOCK_NOT_AVAILABLE
                | &SqlState::QUERY_CANCELED
                | &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
        )
    )
}
