//! The integration tests: one binary, real PostgreSQL, RabbitMQ and Kafka, started by `./dev test`.

mod support;

mod schema;
mod target;
