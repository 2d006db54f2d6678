//! The services of a run, with their processes known.

use crate::support::instance::{Instance, Kind};
use crate::usage::Process;

/// PostgreSQL as somebody who uses it would have it: room for the backlog, no checkpoint in the middle
/// of a measurement. Whether it waits for the disk is for `OUTBOX_DEV_FSYNC` to say.
const POSTGRES_SETTINGS: [&str; 6] = [
    "shared_buffers=1GB",
    "max_wal_size=16GB",
    "checkpoint_timeout=1h",
    "max_parallel_workers_per_gather=0",
    "jit=off",
    "log_min_messages=error",
];

/// One of each.
pub(crate) struct Rig {
    pub(crate) postgres: Instance,
    pub(crate) rabbitmq: Instance,
    pub(crate) kafka: Instance,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let (postgres, rabbitmq, kafka) = tokio::join!(
            Instance::start_with(Kind::Postgres, &POSTGRES_SETTINGS),
            Instance::start(Kind::RabbitMq),
            Instance::start(Kind::Kafka),
        );
        Self { postgres, rabbitmq, kafka }
    }

    pub(crate) fn postgres_process(&self) -> Process {
        process(&self.postgres)
    }

    pub(crate) fn rabbitmq_process(&self) -> Process {
        process(&self.rabbitmq)
    }

    pub(crate) fn kafka_process(&self) -> Process {
        process(&self.kafka)
    }
}

fn process(instance: &Instance) -> Process {
    Process(instance.fact("PID").parse().expect("a process has a number"))
}
