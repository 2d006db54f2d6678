//! The real services a test runs against. `./dev test` starts them and says where they are.

use std::path::PathBuf;

/// Where everything is. A missing service is a failed run, never a skipped test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Services;

impl Services {
    /// PostgreSQL 15, with `max_prepared_transactions = 0`: the doorbell is installed there.
    pub(crate) fn postgres() -> String {
        variable("OUTBOX_TEST_PG_URL")
    }

    /// PostgreSQL 18.
    pub(crate) fn postgres_18() -> String {
        variable("OUTBOX_TEST_PG18_URL")
    }

    /// PostgreSQL with prepared transactions: no doorbell.
    pub(crate) fn postgres_two_phase() -> String {
        variable("OUTBOX_TEST_PG2PC_URL")
    }

    /// The folder with `pg_ctl` and `psql`.
    pub(crate) fn postgres_programs() -> PathBuf {
        variable("OUTBOX_TEST_PG_BIN").into()
    }

    /// RabbitMQ.
    pub(crate) fn amqp() -> String {
        variable("OUTBOX_TEST_AMQP_URL")
    }

    /// Kafka: `host:port`.
    pub(crate) fn kafka() -> String {
        variable("OUTBOX_TEST_KAFKA")
    }

    /// A folder for what a test leaves on disk; removed with the services.
    pub(crate) fn folder() -> PathBuf {
        variable("OUTBOX_TEST_DIR").into()
    }

    /// The program that starts private instances of a service.
    pub(crate) fn brokers() -> PathBuf {
        variable("OUTBOX_TEST_BROKERS").into()
    }
}

/// What `./dev` says under this name.
pub(crate) fn variable(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!("{name} is not set; hint: run ./dev test"),
    }
}
