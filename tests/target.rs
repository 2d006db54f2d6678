//! The targets against real brokers: one contract, every cell of the wire format, and what only one
//! broker can do wrong.

use outbox_relay::target::fence::FenceName;

mod amqp;
mod amqp_fault;
mod amqp_fence;
mod amqp_wire;
mod contract;
mod driver;
mod faulty;
mod kafka;
mod kafka_fault;
mod kafka_fence;
mod kafka_wire;
mod row;
mod stand_by;
mod tls;
mod tls_trouble;
mod unroutable;

/// A fence that nobody else holds.
fn fence() -> FenceName {
    FenceName::new(uuid::Uuid::now_v7(), "test")
}

/// A name of its own for everything that a test leaves at a broker.
fn unique(what: &str) -> String {
    format!("{what}.{}", uuid::Uuid::now_v7().simple())
}
