//! The integration tests of `outbox-inbox`: one binary, real PostgreSQL, RabbitMQ and Kafka, started by `./dev test`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "all of this is a test: a panic is a failure with its place"
)]

mod support;

mod amqp;
mod claim;
mod external;
mod http;
mod idempotency;
mod kafka;
mod language;
mod maintenance;
mod process;
mod schema;
mod sqlx;
mod telemetry;
