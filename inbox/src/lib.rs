//! The receivers' half of a transactional outbox: doing it twice has the effect of doing it once.
//!
//! A message is delivered at least once, a client repeats its request. What makes the second time
//! harmless is one row, claimed in the transaction of the effect:
//!
//! ```text
//!  delivery ──► BEGIN ─► claim (consumer, message id) ─► handler ─► follow-up outbox rows ─► COMMIT ──► settle
//!                          │ duplicate | mismatch | stale: nothing is done again
//! ```
//!
//! Claim and effect commit together or not at all, so a consumer may be killed at any moment.
//!
//! - [`Inbox`] processes a [`Message`] in a transaction of tokio-postgres (module [`sqlx`] in one of sqlx),
//!   and says in an [`Outcome`] what became of it and how its delivery is settled.
//! - [`lapin`] and [`rdkafka`] read deliveries of these clients, and settle them.
//! - [`maintenance`] keeps the tables ready and small, [`schema`] installs them.

mod backoff;
mod batch;
mod builder;
mod cause;
mod claim;
pub mod connection;
mod error;
mod fingerprint;
mod handler;
#[cfg(feature = "http")]
pub mod http;
mod id;
pub mod idempotency;
mod keep;
pub mod maintenance;
mod message;
mod outcome;
mod passthrough;
mod process;
mod quota;
mod record;
mod replay;
pub mod schema;
mod telemetry;
mod verdict;

#[cfg(feature = "lapin")]
pub mod lapin;
#[cfg(feature = "rdkafka")]
pub mod rdkafka;
#[cfg(feature = "sqlx")]
pub mod sqlx;

pub use builder::{
    BuildError, Builder, DEFAULT_ATTEMPTS_MAX, DEFAULT_BACKOFF_MAX, DEFAULT_BACKOFF_MIN,
    DEFAULT_CLAIM_WAIT, DEFAULT_DUPLICATE_LOGS_PER_SECOND_MAX, DEFAULT_HANDLER_TIMEOUT,
    DEFAULT_KEEP_BYTES_MAX, Inbox, LogKeys, OnStale,
};
pub use cause::Cause;
pub use error::InboxError;
pub use handler::HandlerError;
pub use id::{ID_BYTES_MAX, MessageId};
pub use message::{Header, Message, Parts};
pub use outcome::{Outcome, Park, Settle};
pub use telemetry::metric;
pub use verdict::{UnknownVerdict, Verdict};
