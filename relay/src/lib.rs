//! A transactional outbox relay: PostgreSQL to RabbitMQ and Kafka.
//!
//! ```text
//!  application tx ── INSERT ──► outbox.message ── commit ──┐ doorbell (only when the relay is idle)
//!                                                          ▼
//!   ┌───────────────────────── one pipeline per target ─────────────────────────────┐
//!   │  source  ── batch ──►  flow (pure: order, window, retry)  ──►  target          │
//!   │                          ▲                                    kafka │ amqp     │
//!   │                          └────────── outcomes ◄──── confirms ─┘                │
//!   │                          │ settled ids, set-aside rows                         │
//!   │                          ▼                                                     │
//!   │          lease session: holds the lock, and marks ── ledger + retry + dead ──► │ PG
//!   └────────────────────────────────────────────────────────────────────────────────┘
//!        keeper, one a database, elected: retention, and the sweep (which must find nothing)
//! ```
//!
//! `main → command → app → pipeline → {source, flow, target, ledger, lease} → {message, range}`.
//! `source` and `target` never import each other; only `pipeline` joins them.

pub mod admin;
pub mod app;
pub mod board;
pub mod cause;
pub mod cli;
pub mod command;
pub mod config;
mod crash;
pub mod database;
pub mod decision;
pub mod exit;
pub mod flow;
pub mod header;
pub mod http;
pub mod inbox;
pub mod keeper;
pub mod lease;
pub mod ledger;
pub mod membership;
pub mod message;
pub mod notify;
pub mod pipeline;
pub mod printable;
pub mod range;
pub mod route;
pub mod schema;
pub mod secret;
pub mod shutdown;
pub mod source;
pub mod target;
pub mod telemetry;
pub mod tls;
