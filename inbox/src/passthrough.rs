//! Messages that need no inbox.

use crate::builder::Inbox;
use crate::cause::Cause;
use crate::message::Message;

impl Inbox {
    /// Counts a message that is processed without a claim, and says why it may be a repetition. Nothing is
    /// stored or compared. For operations that are idempotent by nature, or whose duplicates are harmless;
    /// whoever begins with it knows from the metric what an inbox would have kept away.
    pub fn passthrough(&self, message: &Message<'_>) -> Cause {
        self.passed(message);
        message.cause()
    }
}
