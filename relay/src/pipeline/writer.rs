//! The task that owns the lease: writes marks, and pings when there is nothing to write.

use std::time::Duration;

use tokio::sync::mpsc::{Receiver, UnboundedSender};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::PipelineError;
use crate::board::Board;
use crate::cause::Cause;
use crate::database::DatabaseError;
use crate::keeper::backlog;
use crate::lease::Lease;
use crate::ledger::Mark;
use crate::ledger::mark::{MarkError, Marker};
use crate::schema::Schema;

/// What the writer needs for its last words.
pub(super) struct Farewell {
    pub(super) schema: Schema,
    pub(super) name: String,
    pub(super) board: Board,
    /// The daemon ends; else the pipeline is handed over, and is still being worked on.
    pub(super) stop: CancellationToken,
}

/// More than this many rows are not counted at the end, nor for longer than this.
const LEFT_ROWS_MAX: i64 = 10_000;
const LEFT_TIMEOUT: Duration = Duration::from_secs(1);

/// Rows of `retry`, at most `$2` of them.
const WAITING: &str =
    "SELECT count(*) FROM (SELECT FROM outbox.retry WHERE target = $1 LIMIT $2) AS waiting";

/// What is left to send to a target, in words.
async fn left(lease: &Lease, schema: &Schema, name: &str) -> String {
    let session = lease.session();
    let counted = async {
        // A scan of the gaps in the ledger alone, as the keeper counts them.
        session.batch_execute("SET enable_seqscan = off").await?;
        let limit = LEFT_ROWS_MAX + 1;
        let backlog = backlog::read(&**session, schema, name, limit).await?;
        let waiting = session.query_one(&schema.sql(WAITING), &[&name, &limit]).await?;
        Ok::<_, tokio_postgres::Error>((backlog.pending, waiting.try_get(0)?))
    };
    match tokio::time::timeout(LEFT_TIMEOUT, counted).await {
        Ok(Ok(rows)) => in_words(rows),
        Ok(Err(_)) | Err(_) => "not known what is pending".to_owned(),
    }
}

fn in_words((pending, waiting): (i64, i64)) -> String {
    let pending = match pending {
        0 => "nothing pending".to_owned(),
        1 => "1 row pending".to_owned(),
        rows if rows > LEFT_ROWS_MAX => format!("more than {LEFT_ROWS_MAX} rows pending"),
        rows => format!("{rows} rows pending"),
    };
    match waiting {
        0 => pending,
        rows if rows > LEFT_ROWS_MAX => format!("{pending}, more than {LEFT_ROWS_MAX} in retry"),
        rows => format!("{pending}, {rows} in retry"),
    }
}

/// Runs until the marks end: then this life has, in good order, and the lock is let go; or until the lease is lost.
/// One mark is under way at a time; one that the database refuses is written again, and `trouble` says why it waits.
pub(super) async fn write_marks(
    lease: Lease,
    mut marker: Marker,
    ping_interval: Duration,
    mut marks: Receiver<Mark>,
    marked: UnboundedSender<Mark>,
    trouble: watch::Sender<Option<Cause>>,
    farewell: Farewell,
) -> Result<(), PipelineError> {
    let Farewell { schema, name, board, stop } = farewell;
    loop {
        let mark = tokio::select! {
            mark = marks.recv() => mark,
            () = tokio::time::sleep(ping_interval) => {
                lease.ping().await?;
                continue;
            }
        };
        let Some(mut mark) = mark else {
            // Both at once: until then nobody leads.
            let (ended, released) =
                tokio::join!(biased; marker.end(&lease), lease.release(&schema, &name));
            ended.and(released)?;
            // Nobody waits for this: the next leader works by now.
            if stop.is_cancelled() {
                board.leave(&name, left(&lease, &schema, &name).await);
            }
            return Ok(());
        };
        let mut pause = PAUSE_MIN;
        while let Err(error) = marker.write(&lease, &mut mark).await {
            let MarkError::Database(error @ DatabaseError::Statement { .. }) = error else {
                return Err(error.into());
            };
            // The session is well, and nothing that the mark holds is lost or sent again: it waits.
            let cause = Cause::of(&error);
            if trouble.borrow().as_ref() != Some(&cause) {
                let Cause { reason, hint } = &cause;
                tracing::warn!(
                    target_name = name,
                    error = reason,
                    hint,
                    "a mark cannot be written"
                );
                trouble.send_replace(Some(cause));
            }
            hold(&lease, pause, ping_interval).await?;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        if trouble.borrow().is_some() {
            tracing::info!(target_name = name, "marks are written again");
            trouble.send_replace(None);
        }
        let _ = marked.send(mark);
    }
}

/// The pauses of a mark that the database refuses.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Keeps the lease for so long.
async fn hold(
    lease: &Lease,
    pause: Duration,
    ping_interval: Duration,
) -> Result<(), PipelineError> {
    let until = tokio::time::Instant::now() + pause;
    loop {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        tokio::time::sleep(left.min(ping_interval)).await;
        lease.ping().await?;
    }
}
