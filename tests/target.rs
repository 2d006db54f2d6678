//! The targets against real brokers: one contract, every cell of the wire format, and what only one
//! broker can do wrong.

mod amqp;
mod amqp_fault;
mod amqp_wire;
mod contract;
mod driver;
mod kafka;
mod kafka_fault;
mod kafka_wire;
mod private;
mod row;
mod tls;
mod unroutable;

use std::future::Future;
use std::time::Duration;

/// The difference between a failed test and one that hangs; no test asserts a time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a service is.
fn service(variable: &str) -> String {
    match std::env::var(variable) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!("{variable} is not set; hint: run ./dev test"),
    }
}

/// A name of its own for everything that a test leaves at a broker.
fn unique(what: &str) -> String {
    format!("{what}.{}", uuid::Uuid::now_v7().simple())
}

async fn wait_for<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}
