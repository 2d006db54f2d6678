//! How often a transaction does what, per thousand.

/// The habits of a writer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    /// Draws its transaction id before anything else, and waits.
    pub(crate) early_xid: u64,
    /// Waits between the insert and the commit.
    pub(crate) sleep: u64,
    /// The longest such wait, milliseconds.
    pub(crate) sleep_ms_max: u64,
    pub(crate) rollback: u64,
    /// Writes under a savepoint; every second one is rolled back to.
    pub(crate) savepoint: u64,
    /// Several rows in one INSERT.
    pub(crate) multi_row: u64,
    /// Several rows by COPY.
    pub(crate) copy: u64,
    /// By `outbox.publish`.
    pub(crate) publish: u64,
    /// A hundred rows over many keys.
    pub(crate) big: u64,
    /// Without a key.
    pub(crate) null_key: u64,
    /// PREPARE TRANSACTION, then COMMIT PREPARED or ROLLBACK PREPARED.
    pub(crate) two_phase: u64,
    /// Every kind of payload and header, not only orders.
    pub(crate) odd_content: u64,
}

impl Mix {
    /// Everything at once; without two-phase commit, which needs a server that allows it.
    pub(crate) fn hostile() -> Self {
        Self {
            early_xid: 100,
            sleep: 50,
            sleep_ms_max: 20,
            rollback: 100,
            savepoint: 100,
            multi_row: 100,
            copy: 50,
            publish: 150,
            big: 10,
            null_key: 50,
            two_phase: 0,
            odd_content: 300,
        }
    }

    /// With one transaction in ten committed in two phases.
    pub(crate) fn hostile_two_phase() -> Self {
        Self { two_phase: 100, ..Self::hostile() }
    }

    /// What an ordinary application does.
    pub(crate) fn orders() -> Self {
        Self {
            early_xid: 0,
            sleep: 20,
            sleep_ms_max: 10,
            rollback: 100,
            savepoint: 0,
            multi_row: 50,
            copy: 0,
            publish: 300,
            big: 0,
            null_key: 0,
            two_phase: 0,
            odd_content: 0,
        }
    }
}
