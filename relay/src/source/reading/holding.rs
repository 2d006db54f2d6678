//! Reads the locks: which holes are dead, and who keeps the others open.

use std::time::Duration;

use tokio::time::Instant;

use super::Reading;
use crate::source::error::ReadError;

/// A holder is named once it has kept holes open for this long,
const NAME_AFTER: Duration = Duration::from_secs(5);
/// and again as often as this: a night's batch job is news once, not seven thousand times.
const NAME_INTERVAL: Duration = Duration::from_secs(60);

impl Reading {
    pub(super) async fn read_locks(&mut self) -> Result<(), ReadError> {
        let begun = Instant::now();
        let read = self.client.deadline().answer(self.locks.read(&self.client)).await??;
        self.guard.check(&read, self.holes.hi())?;
        let progress = self.holes.locks(&read.holders, read.last_value);
        self.lock_pace.done(Instant::now(), begun.elapsed(), progress);
        self.show(|status| status.last_value = read.last_value);
        self.name_holder().await
    }

    /// Names the transaction that keeps holes open, once it has done so for a while.
    async fn name_holder(&mut self) -> Result<(), ReadError> {
        let Some(oldest) = self.holes.oldest_holder() else {
            self.suspect = None;
            self.show(|status| status.holder = None);
            return Ok(());
        };
        let now = Instant::now();
        let at = match &self.suspect {
            Some((transaction, at)) if transaction == oldest => *at,
            _ => {
                self.suspect = Some((oldest.to_owned(), now + NAME_AFTER));
                self.show(|status| status.holder = None);
                now + NAME_AFTER
            }
        };
        let stalled = self.status.borrow().stalled;
        if now < at && !(stalled && self.status.borrow().holder.is_none()) {
            return Ok(());
        }
        let holder = self.holders.name(&self.client, oldest);
        let holder = self.client.deadline().answer(holder).await??;
        if let Some(holder) = &holder {
            let hole_ids = self.holes.open().ids_len();
            tracing::warn!(%holder, hole_ids, stalled, "a transaction keeps ids of the outbox open");
        }
        self.suspect = Some((oldest.to_owned(), now + NAME_INTERVAL));
        self.show(|status| status.holder = holder);
        Ok(())
    }
}
