//! What must not happen to the table while a reader relies on it. Pure.
//!
//! `hi`, the holes and the ledger mean something only while ids ascend from one sequence, one at a
//! time, into one table. Each lock read checks that, and a reader that finds otherwise stops.

use super::error::SourceError;
use super::hole::Holder;

/// What one lock read shows.
#[derive(Debug, Clone)]
pub(super) struct LockRead {
    /// `message`'s oid; `None`: there is no such table.
    pub(super) table: Option<u32>,
    /// The last id that was drawn; 0 if none.
    pub(super) last_value: i64,
    /// The identity's CACHE.
    pub(super) cache: i64,
    /// The identity's INCREMENT.
    pub(super) increment: i64,
    /// Who holds a RowExclusiveLock on the table.
    pub(super) holders: Vec<Holder>,
}

/// Remembers which table it was.
#[derive(Debug, Default)]
pub(super) struct Guard {
    table: Option<u32>,
    file: Option<u32>,
}

impl Guard {
    /// Checks where the identity's sequence was stored after a read.
    ///
    /// # Errors
    /// `Stopped`, with the remedy: ids that were drawn since mean other rows.
    pub(super) fn check_file(&mut self, file: Option<u32>) -> Result<(), SourceError> {
        let Some(file) = file else { return Ok(()) };
        if *self.file.get_or_insert(file) == file {
            return Ok(());
        }
        Err(restarted())
    }

    /// Checks a lock read that began after the read that showed `hi`, the highest id ever read or settled.
    ///
    /// # Errors
    /// `Stopped`, with the remedy.
    pub(super) fn check(&mut self, read: &LockRead, hi: i64) -> Result<(), SourceError> {
        let table = read.table.ok_or_else(|| {
            SourceError::stopped("the message table is gone", "run `outbox-relay migrate`")
        })?;
        if *self.table.get_or_insert(table) != table {
            return Err(SourceError::stopped(
                "the message table was replaced by another one",
                REBUILD_HINT,
            ));
        }
        if read.cache != 1 || read.increment != 1 {
            return Err(SourceError::stopped(
                format!(
                    "the identity of message.id has CACHE {} and INCREMENT {}: ids no longer ascend one by one",
                    read.cache, read.increment
                ),
                "ALTER TABLE … ALTER COLUMN id SET CACHE 1 SET INCREMENT BY 1, then `outbox-relay ledger rebuild`",
            ));
        }
        if hi > read.last_value {
            return Err(SourceError::stopped(
                format!(
                    "id {hi} was read or settled, but the identity of message.id stands at {}: \
                     it was restarted, or an id was inserted by hand",
                    read.last_value
                ),
                REBUILD_HINT,
            ));
        }
        Ok(())
    }
}

/// The identity was restarted, as the storage of its sequence shows.
pub(crate) fn restarted() -> SourceError {
    SourceError::stopped("the identity of message.id was restarted or altered", REBUILD_HINT)
}

const REBUILD_HINT: &str = "let ids continue above every id that was used (ALTER TABLE … ALTER COLUMN id RESTART WITH …), \
     then `outbox-relay ledger rebuild`: it makes everything pending that is not provably settled";

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: LockRead =
        LockRead { table: Some(7), last_value: 10, cache: 1, increment: 1, holders: Vec::new() };

    #[test]
    fn stops_at_whatever_makes_ids_mean_something_else() {
        let mut guard = Guard::default();
        assert!(guard.check(&GOOD, 10).is_ok());
        for (read, hi, named) in [
            (LockRead { table: None, ..GOOD }, 10, "gone"),
            (LockRead { table: Some(8), ..GOOD }, 10, "replaced"),
            (LockRead { cache: 20, ..GOOD }, 10, "CACHE 20"),
            (LockRead { increment: -1, ..GOOD }, 10, "INCREMENT -1"),
            (LockRead { last_value: 9, ..GOOD }, 10, "restarted"),
            (LockRead { last_value: 0, ..GOOD }, 1, "stands at 0"),
        ] {
            let error = guard.check(&read, hi).expect_err(named).to_string();
            assert!(error.contains(named) && error.contains("\nhint: "), "{error}");
        }
        assert!(guard.check(&GOOD, 10).is_ok(), "a rewrite of the same table stops nothing");
        assert!(guard.check_file(Some(1)).is_ok() && guard.check_file(Some(1)).is_ok());
        assert!(guard.check_file(Some(2)).is_err());
    }
}
