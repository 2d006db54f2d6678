//! The targets against real brokers: one contract, every cell of the wire format, and what only one
//! broker can do wrong.

mod amqp;
mod amqp_fault;
mod amqp_wire;
mod contract;
mod driver;
mod faulty;
mod kafka;
mod kafka_fault;
mod kafka_wire;
mod row;
mod tls;
mod unroutable;

/// A name of its own for everything that a test leaves at a broker.
fn unique(what: &str) -> String {
    format!("{what}.{}", uuid::Uuid::now_v7().simple())
}
