//! `Idempotency-Key` over real HTTP and a real database, case by case.

mod conformance;
mod crash;
mod handler;
mod leased;
mod race;
mod server;
mod transactional;
