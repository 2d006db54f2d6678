//! The name of a pipeline's fence at its broker.

use std::fmt;

use uuid::Uuid;

/// What a leader holds at the broker while it publishes, so that a predecessor cannot: the name of
/// an exclusive queue in RabbitMQ, of a `transactional.id` in Kafka. It holds the outbox's own id,
/// so that two outboxes with a target of the same name share a broker in peace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceName(String);

impl FenceName {
    /// What every name begins with: permissions are granted for it.
    pub const PREFIX: &str = "outbox-relay.fence.";

    /// The fence of `target` of the outbox `outbox_id` (`outbox.meta`). At most 119 bytes: RabbitMQ
    /// takes 255.
    #[must_use]
    pub fn new(outbox_id: Uuid, target: &str) -> Self {
        Self(format!("{}{}.{target}", Self::PREFIX, outbox_id.hyphenated()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FenceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
