//! The rules of one target.

use std::time::Duration;

use super::Backoff;
use crate::config::default::{
    DEFAULT_ATTEMPTS_MAX, DEFAULT_CONFIRM_TIMEOUT, DEFAULT_KAFKA_WINDOW_MESSAGES_MAX,
    DEFAULT_OUTAGE_BACKOFF_MAX, DEFAULT_RETRY_BACKOFF_MAX, DEFAULT_RETRY_BACKOFF_MIN,
    DEFAULT_ROW_BYTES_MAX, DEFAULT_STRAGGLER_AFTER, DEFAULT_STRAGGLERS_MAX,
    DEFAULT_WAITING_ROWS_MAX, DEFAULT_WINDOW_BYTES_MAX,
};
use crate::config::{OnPoison, Order, Unrouted};

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
    /// Whether the target sends a probe beside the others, and so in no order with them.
    pub probes_aside: bool,
    /// See `TargetConfig::confirm_timeout`.
    pub confirm_timeout: Duration,
    /// See `TargetConfig::straggler_after`.
    pub straggler_after: Duration,
    /// See `TargetConfig::stragglers_max`.
    pub stragglers_max: usize,
    /// What becomes of a row that no route takes.
    pub unrouted: Unrouted,
    /// Rows that wait for one route, or for any, before further ones are buried.
    pub waiting_rows_max: u64,
    /// The limit that an oversize row exceeded, for its reason.
    pub row_bytes_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            order: Order::Pipelined,
            on_poison: OnPoison::Skip,
            window_messages_max: DEFAULT_KAFKA_WINDOW_MESSAGES_MAX,
            window_bytes_max: DEFAULT_WINDOW_BYTES_MAX,
            attempts_max: DEFAULT_ATTEMPTS_MAX,
            retry_backoff: Backoff {
                min: DEFAULT_RETRY_BACKOFF_MIN,
                max: DEFAULT_RETRY_BACKOFF_MAX,
            },
            probe_backoff: Backoff {
                min: DEFAULT_RETRY_BACKOFF_MIN,
                max: DEFAULT_OUTAGE_BACKOFF_MAX,
            },
            probes_aside: false,
            confirm_timeout: DEFAULT_CONFIRM_TIMEOUT,
            straggler_after: DEFAULT_STRAGGLER_AFTER,
            stragglers_max: DEFAULT_STRAGGLERS_MAX,
            unrouted: Unrouted::Settle,
            waiting_rows_max: DEFAULT_WAITING_ROWS_MAX,
            row_bytes_max: DEFAULT_ROW_BYTES_MAX,
        }
    }
}
