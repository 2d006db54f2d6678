//! What the tests and the demo share: real services, a hostile writer, independent consumers, and
//! the checker that compares what was committed with what was received.
//!
//! ```text
//!  services ── url ──► database ◄── writer ──► journal (what was committed) ──┐
//!                         ▲                                                   ▼
//!                       relay ──► broker ──► consumer ──► deliveries ──►  checker ──► report
//! ```

#[allow(dead_code, reason = "./dev chaos uses the rest of it")]
pub(crate) mod chaos;
pub(crate) mod checker;
pub(crate) mod consumer;
pub(crate) mod content;
pub(crate) mod database;
pub(crate) mod faulty;
pub(crate) mod instance;
pub(crate) mod patience;
pub(crate) mod progress;
#[allow(dead_code, unused_imports, reason = "./dev proof uses the rest of it")]
pub(crate) mod proof;
pub(crate) mod proxy;
pub(crate) mod relay;
pub(crate) mod rng;
pub(crate) mod services;
pub(crate) mod session;
pub(crate) mod stage;
pub(crate) mod writer;
