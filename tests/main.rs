//! The integration tests: one binary, real PostgreSQL, RabbitMQ and Kafka, started by `./dev test`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "all of this is a test: a panic is a failure with its place"
)]

mod support;

mod admin;
mod chaos;
mod config;
mod crash;
mod daemon;
mod delivery;
mod docs;
mod hostile;
mod keeper;
mod leadership;
mod ledger;
mod outage;
mod policy;
mod proof;
mod schema;
mod source;
mod startup;
mod target;
mod unrouted;
