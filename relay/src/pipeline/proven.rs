//! What has worked once in this process: if it is refused later, the configuration is not to blame.

use std::sync::atomic::{AtomicBool, Ordering};

use super::PipelineError;

/// What one pipeline has reached so far. A password that is being rotated, a directory service that
/// is away, a restore under way: none of them shall end the process for good.
#[derive(Debug, Default)]
pub struct Proven {
    database: AtomicBool,
    broker: AtomicBool,
}

impl Proven {
    /// The database let it lead.
    pub(super) fn database(&self) {
        self.database.store(true, Ordering::Relaxed);
    }

    /// The broker let it in.
    pub(super) fn broker(&self) {
        self.broker.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_broker(&self) -> bool {
        self.broker.load(Ordering::Relaxed)
    }

    /// What the database says, as it is to be taken now.
    pub(super) fn soften(&self, error: PipelineError) -> PipelineError {
        match error {
            PipelineError::Configuration { reason, hint }
                if self.database.load(Ordering::Relaxed) =>
            {
                PipelineError::Stopped { reason, hint }
            }
            error => error,
        }
    }
}
