//! The task that owns the lease: writes marks, and pings when there is nothing to write.

use std::time::Duration;

use tokio::sync::mpsc::{Receiver, UnboundedSender};

use super::PipelineError;
use crate::lease::Lease;
use crate::ledger::Mark;
use crate::ledger::mark::Marker;
use crate::schema::Schema;

/// Runs until the marks end: then this life has, in good order, and the lock is let go; or until the lease is lost.
/// One mark is under way at a time.
pub(super) async fn write_marks(
    lease: Lease,
    mut marker: Marker,
    ping_interval: Duration,
    mut marks: Receiver<Mark>,
    marked: UnboundedSender<Mark>,
    (schema, name): (Schema, String),
) -> Result<(), PipelineError> {
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
            return Ok(ended.and(released)?);
        };
        marker.write(&lease, &mut mark).await?;
        let _ = marked.send(mark);
    }
}
