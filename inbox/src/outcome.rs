//! What became of a message, and what its delivery is told.

use std::time::Duration;

use crate::cause::Cause;

/// What became of a message. Whatever it is, it is committed: now the delivery may be settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The handler's transaction is committed.
    Done {
        /// What the handler returned.
        value: T,
        /// Which attempt it was, from 1.
        attempt: u32,
    },
    /// It was processed before; nothing was done.
    DuplicateIgnored {
        /// Why it came again, as far as anybody knows.
        cause: Cause,
    },
    /// It is older than the inbox remembers, and the inbox is set to take it for a duplicate.
    StaleIgnored,
    /// The attempt failed; nothing of it is left but its count.
    Retry {
        /// Which attempt it was, from 1.
        attempt: u32,
        /// How long to wait before the delivery is settled, and so comes again.
        after: Duration,
    },
    /// It is given up, and waits for a person in `inbox_failure`.
    Parked {
        /// Why.
        why: Park,
        /// How many attempts have failed.
        attempts: u32,
    },
}

/// Why a message was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Park {
    /// It has no id.
    MissingId,
    /// Its id is another message's.
    Mismatch,
    /// It is older than the inbox remembers.
    Stale,
    /// Its id is of a day after tomorrow, by the database's clock, which the inbox has no partition
    /// for.
    Future,
    /// Its handler says that no attempt will succeed.
    Permanent,
    /// Its effect exists, and not by this inbox.
    AlreadyExists,
    /// It failed as often as it may.
    Attempts,
}

impl Park {
    /// As it is stored and counted.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingId => "missing_id",
            Self::Mismatch => "mismatch",
            Self::Stale => "stale",
            Self::Future => "future",
            Self::Permanent => "permanent",
            Self::AlreadyExists => "already_exists",
            Self::Attempts => "attempts",
        }
    }
}

/// What the broker is told of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// It is done with. RabbitMQ: `basic.ack`; Kafka: its offset may be stored.
    Ack,
    /// It is to come again, and this was an attempt. RabbitMQ: `basic.reject` with requeue, which
    /// counts towards a quorum queue's delivery limit; Kafka: seek back.
    Retry,
    /// It is given up. RabbitMQ: `basic.reject` without requeue, so into the dead letter exchange if
    /// there is one; Kafka: its offset may be stored, what is kept stands in `inbox_failure`.
    DeadLetter,
    /// It is to come again, and this was no attempt: shutdown, an outage, another instance at it.
    /// RabbitMQ: `basic.nack` with requeue, which counts nothing since 4.3; Kafka: seek back.
    Release,
}

impl<T> Outcome<T> {
    /// What the delivery is told, after [`delay`](Self::delay).
    #[must_use]
    pub fn settle(&self) -> Settle {
        match self {
            Self::Done { .. } | Self::DuplicateIgnored { .. } | Self::StaleIgnored => Settle::Ack,
            Self::Retry { .. } => Settle::Retry,
            Self::Parked { .. } => Settle::DeadLetter,
        }
    }

    /// How long to wait before that.
    #[must_use]
    pub fn delay(&self) -> Duration {
        match self {
            Self::Retry { after, .. } => *after,
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_done_with_is_acknowledged() {
        let parked: Outcome<()> = Outcome::Parked { why: Park::Attempts, attempts: 8 };
        assert_eq!(parked.settle(), Settle::DeadLetter);
        let retry: Outcome<()> = Outcome::Retry { attempt: 1, after: Duration::from_secs(1) };
        assert_eq!((retry.settle(), retry.delay()), (Settle::Retry, Duration::from_secs(1)));
        let duplicate: Outcome<()> = Outcome::DuplicateIgnored { cause: Cause::Unknown };
        assert_eq!((duplicate.settle(), duplicate.delay()), (Settle::Ack, Duration::ZERO));
    }
}
