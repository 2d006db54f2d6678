//! The inboxes of consumers that this process maintains, one loop each. What a run does is
//! `outbox-inbox`'s; the loop decides only when.

use std::time::Duration;

use outbox_inbox::maintenance::{self, Settings, Stats, stats};
use tokio_util::sync::CancellationToken;

use crate::cause::Cause;
use crate::config::InboxConfig;
use crate::database::{DatabaseError, Session, describe, ends_session, remedy};
use crate::schema::Schema;

/// `application_name` of the sessions.
pub const APPLICATION_NAME: &str = "outbox-relay inbox";

const DAY_SECONDS: u64 = 86_400;
/// Fewer partitions ahead, and somebody has to look: the weekend is two days long.
const AHEAD_DAYS_WARN: i64 = 3;

impl InboxConfig {
    /// What the maintenance keeps to. A day that has begun is a day.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            retention_days: days(self.retention),
            ahead_days: days(self.ahead),
            detach_timeout: self.detach_timeout,
        }
    }
}

/// Maintains an inbox until `stop` is cancelled. No failure of it is a reason to stop publishing.
///
/// Cancel safety: dropping the future leaves a run half-way, and the next one goes on.
pub async fn keep(inbox: InboxConfig, schema: Schema, stop: CancellationToken) {
    let work = async {
        loop {
            match Box::pin(run(&inbox, &schema)).await {
                Ok(stats) => tell(&inbox.name, &stats),
                // Handled here: it is told, and the next run tries again.
                Err(error) => {
                    tracing::warn!(inbox = inbox.name, error = %Cause::of(&error), "an inbox was not maintained")
                }
            }
            tokio::time::sleep(inbox.interval).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn run(inbox: &InboxConfig, schema: &Schema) -> Result<Stats, DatabaseError> {
    // A session a run: an hour of idleness is longer than most networks keep one.
    let session = Session::connect(&inbox.database, APPLICATION_NAME).await?;
    match maintenance::maintain(&session, schema, &inbox.settings()).await {
        Ok(None) => {}
        Ok(Some(report)) => {
            if let Some(partition) = &report.waiting {
                tracing::warn!(
                    inbox = inbox.name,
                    partition,
                    "a handler holds an expired partition"
                );
            }
            tracing::debug!(inbox = inbox.name, ?report, "inbox maintained");
        }
        // A statement that is refused keeps nobody from seeing how the inbox is.
        Err(error) if !ends_session(&error) => {
            let (error, hint) = (describe(&error), remedy(&error));
            let hint = hint.as_deref();
            tracing::warn!(inbox = inbox.name, error, hint, "an inbox was not maintained");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(stats(&session, schema).await?)
}

fn tell(inbox: &str, stats: &Stats) {
    stats.publish(inbox);
    if stats.partitions_ahead < AHEAD_DAYS_WARN {
        let days = stats.partitions_ahead;
        tracing::error!(inbox, days, "an inbox has few partitions ahead, and stops without");
    }
}

fn days(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs().div_ceil(DAY_SECONDS)).unwrap_or(u32::MAX)
}
