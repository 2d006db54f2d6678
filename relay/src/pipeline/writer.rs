//! The task that owns the lease: writes marks, and pings when there is nothing to write.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, UnboundedSender};

use super::PipelineError;
use crate::lease::Lease;
use crate::ledger::Mark;
use crate::ledger::mark::Marker;
use crate::schema::Schema;

/// A server that hangs acknowledges at the level of TCP for ever, and the address may lead to another
/// one by now: a session that is silent beyond every time-out of its statements is given up.
async fn answered<T>(
    answer_timeout: Duration,
    statement: impl Future<Output = T>,
) -> Result<T, PipelineError> {
    tokio::time::timeout(answer_timeout, statement)
        .await
        .map_err(|_| PipelineError::Lost("the database does not answer".into()))
}

/// Runs until the marks end, and lets the lock go; or until the lease is lost. One mark is under way at a time.
pub(super) async fn write_marks(
    mut lease: Lease,
    mut marker: Marker,
    ping_interval: Duration,
    mut marks: Receiver<Mark>,
    marked: UnboundedSender<Mark>,
    (schema, name): (Schema, String),
    answer_timeout: Duration,
) -> Result<(), PipelineError> {
    loop {
        let mark = tokio::select! {
            mark = marks.recv() => mark,
            () = tokio::time::sleep(ping_interval) => {
                answered(answer_timeout, lease.ping()).await??;
                continue;
            }
        };
        let Some(mut mark) = mark else {
            return Ok(lease.release(&schema, &name).await?);
        };
        answered(answer_timeout, marker.write(&mut lease, &mut mark)).await??;
        let _ = marked.send(mark);
    }
}
