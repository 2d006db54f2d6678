//! How much is measured: a quick look, the usual run, or everything.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The size of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scale {
    Quick,
    Usual,
    Full,
}

impl Scale {
    /// Of each measurement, if nobody says otherwise.
    pub(crate) fn runs(self) -> usize {
        if self == Self::Quick { 1 } else { 3 }
    }

    /// Rows of a backlog for Kafka.
    pub(crate) fn kafka_rows(self, payload_bytes: usize) -> u64 {
        let (rows, bytes) = match self {
            Self::Quick => (200_000, 100 << 20),
            Self::Usual => (1_000_000, 512 << 20),
            Self::Full => (1_000_000, 2 << 30),
        };
        rows.min(bytes / payload_bytes as u64)
    }

    /// Rows of a backlog for RabbitMQ, which takes a tenth of what Kafka takes.
    pub(crate) fn amqp_rows(self, payload_bytes: usize) -> u64 {
        let (rows, bytes) = match self {
            Self::Quick => (50_000, 50 << 20),
            Self::Usual => (100_000, 128 << 20),
            Self::Full => (1_000_000, 2 << 30),
        };
        rows.min(bytes / payload_bytes as u64)
    }

    /// How long a steady load lasts.
    pub(crate) fn steady(self) -> Duration {
        Duration::from_secs(if self == Self::Quick { 4 } else { 8 })
    }

    /// How long writers write.
    pub(crate) fn writing(self) -> Duration {
        Duration::from_secs(if self == Self::Quick { 4 } else { 8 })
    }

    /// Rows of a long backlog for Kafka.
    pub(crate) fn slope_kafka_rows(self) -> u64 {
        match self {
            Self::Quick => 300_000,
            Self::Usual => 1_000_000,
            Self::Full => 10_000_000,
        }
    }

    /// Rows of a long backlog for RabbitMQ.
    pub(crate) fn slope_amqp_rows(self) -> u64 {
        match self {
            Self::Quick => 50_000,
            Self::Usual => 200_000,
            Self::Full => 1_000_000,
        }
    }

    /// Rows of a backlog that every peer drains.
    pub(crate) fn peer_rows(self) -> u64 {
        match self {
            Self::Quick => 100_000,
            Self::Usual => 500_000,
            Self::Full => 1_000_000,
        }
    }

    /// Rows of an inbox's day that has expired.
    pub(crate) fn inbox_rows(self) -> u64 {
        match self {
            Self::Quick => 100_000,
            Self::Usual | Self::Full => 1_000_000,
        }
    }

    /// As in the page.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Quick => "--quick",
            Self::Usual => "usual",
            Self::Full => "--full",
        }
    }
}
