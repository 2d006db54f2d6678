//! The task that owns the lease: writes marks, and pings when there is nothing to write.

use std::time::Duration;

use tokio::sync::mpsc::{Receiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

use super::PipelineError;
use crate::board::Board;
use crate::keeper::backlog;
use crate::lease::Lease;
use crate::ledger::Mark;
use crate::ledger::mark::Marker;
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

/// What is pending for a target, in words.
async fn left(lease: &Lease, schema: &Schema, name: &str) -> String {
    let session = lease.session();
    let counted = async {
        // A scan of the gaps in the ledger alone, as the keeper counts them.
        session.batch_execute("SET enable_seqscan = off").await?;
        backlog::read(&**session, schema, name, LEFT_ROWS_MAX + 1).await
    };
    match tokio::time::timeout(LEFT_TIMEOUT, counted).await {
        Ok(Ok(backlog)) => match backlog.pending {
            0 => "nothing pending".to_owned(),
            1 => "1 row pending".to_owned(),
            rows if rows > LEFT_ROWS_MAX => format!("more than {LEFT_ROWS_MAX} rows pending"),
            rows => format!("{rows} rows pending"),
        },
        Ok(Err(_)) | Err(_) => "not known what is pending".to_owned(),
    }
}

/// Runs until the marks end: then this life has, in good order, and the lock is let go; or until the lease is lost.
/// One mark is under way at a time.
pub(super) async fn write_marks(
    lease: Lease,
    mut marker: Marker,
    ping_interval: Duration,
    mut marks: Receiver<Mark>,
    marked: UnboundedSender<Mark>,
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
        marker.write(&lease, &mut mark).await?;
        let _ = marked.send(mark);
    }
}
