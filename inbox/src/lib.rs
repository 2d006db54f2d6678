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

pub mod schema;
