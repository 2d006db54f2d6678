//! The proof of the receivers' half: everything that happens to a message twice has its effect once.
//!
//! ```text
//!  requests ── outbox.publish ──► relay ──► RabbitMQ (quorum) ──► 2 consumers ─┐
//!  (one database)                      └──► Kafka ──────────────► 2 consumers ─┤ one name
//!                                                                              ▼
//!          verdict ◄── compares requests, payments and charges ── payments (another database), provider
//! ```
//! The consumers are processes of `examples/proof`, which are `examples/payments` with ends to order. The
//! table of payments has no unique key: only the inbox protects it.

pub(crate) mod control;
pub(crate) mod crash;
pub(crate) mod crew;
pub(crate) mod drain;
pub(crate) mod fault;
pub(crate) mod found;
pub(crate) mod plan;
pub(crate) mod provider;
pub(crate) mod relay;
pub(crate) mod request;
pub(crate) mod rig;
pub(crate) mod run;
pub(crate) mod tally;
pub(crate) mod verdict;

pub(crate) use crash::CrashPoint;
pub(crate) use plan::Plan;
pub(crate) use run::run;
pub(crate) use verdict::Verdict;

/// The first argument of a consumer process.
pub(crate) const CONSUMER: &str = "consumer";
/// Which mistake a consumer process is to make.
pub(crate) const CONTROL_VARIABLE: &str = "OUTBOX_PROOF_CONTROL";
