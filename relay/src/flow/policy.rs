//! The rules of one target.

use std::time::Duration;

use super::Backoff;
use crate::config::{OnPoison, Order};

/// The rules of one target.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How many messages of a key may be in flight.
    pub order: Order,
    /// What becomes of a key whose message is buried.
    pub on_poison: OnPoison,
    /// Messages in flight.
    pub window_messages_max: usize,
    /// Bytes in flight; one message is sent whatever its size.
    pub window_bytes_max: usize,
    /// Refusals before a message is buried.
    pub attempts_max: u32,
    /// Pauses of a refused message.
    pub retry_backoff: Backoff,
    /// Pauses between two probes of a parked destination.
    pub probe_backoff: Backoff,
    /// See `TargetConfig::confirm_timeout`.
    pub confirm_timeout: Duration,
    /// See `TargetConfig::straggler_after`.
    pub straggler_after: Duration,
    /// See `TargetConfig::stragglers_max`.
    pub stragglers_max: usize,
    /// The limit that an oversize row exceeded, for its reason.
    pub row_bytes_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            order: Order::Pipelined,
            on_poison: OnPoison::Skip,
            window_messages_max: 5_000,
            window_bytes_max: 64 << 20,
            attempts_max: 10,
            retry_backoff: Backoff { min: Duration::from_secs(1), max: Duration::from_secs(300) },
            probe_backoff: Backoff { min: Duration::from_secs(1), max: Duration::from_secs(30) },
            confirm_timeout: Duration::from_secs(30),
            straggler_after: Duration::from_secs(5),
            stragglers_max: 10_000,
            row_bytes_max: 8 << 20,
        }
    }
}
