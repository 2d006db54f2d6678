//! The integration tests: one binary, real PostgreSQL, RabbitMQ and Kafka, started by `./dev test`.

mod support;

mod admin;
mod config;
mod crash;
mod daemon;
mod delivery;
mod hostile;
mod keeper;
mod outage;
mod schema;
mod source;
mod target;
