//! The services that cells share: private instances, since they are killed, hung and filled.

use std::path::{Path, PathBuf};

use tokio::sync::OnceCell;

use super::old_transaction::OldTransaction;
use super::small_disk::SmallDisk;
use crate::support::instance::{Instance, Kind};
use crate::support::proxy::{Network, Proxy};
use crate::support::services::Services;

/// Where Debian's package `libfaketime` puts it, below the folder of the architecture.
const FAKETIME: &str = "faketime/libfaketime.so.1";

/// A killed broker is let in again when its session has ended: 9 s by default. Shorter still, and a busy machine fences
/// off a broker that lives.
const SOON_KNOWN_AGAIN: [&str; 2] =
    ["broker.session.timeout.ms=5000", "broker.heartbeat.interval.ms=500"];

/// Running services, and the network in front of Kafka. What only some faults need starts with the first of them.
pub(crate) struct Arena {
    pub(crate) postgres: Instance,
    pub(crate) rabbitmq: Instance,
    pub(crate) kafka: Instance,
    /// Kafka's clients learn its address from itself, so that this is one for all relays.
    pub(crate) kafka_link: Proxy,
    old_transaction: OnceCell<OldTransaction>,
    two_phase: OnceCell<Instance>,
    false_clock: OnceCell<Instance>,
    three_brokers: OnceCell<Instance>,
    small_disk: OnceCell<SmallDisk>,
}

impl Arena {
    /// Starts what every cell needs.
    pub(crate) async fn start() -> Self {
        let (postgres, rabbitmq, kafka) = tokio::join!(
            Instance::start(Kind::Postgres),
            Instance::start(Kind::RabbitMq),
            Instance::start_with(Kind::Kafka, &SOON_KNOWN_AGAIN)
        );
        let kafka_link = Proxy::start_at(kafka.fact("FRONT"), kafka.fact("BEHIND")).await;
        let (two_phase, false_clock) = (OnceCell::new(), OnceCell::new());
        let old_transaction = OnceCell::new();
        let (three_brokers, small_disk) = (OnceCell::new(), OnceCell::new());
        Self {
            postgres,
            rabbitmq,
            kafka,
            kafka_link,
            old_transaction,
            two_phase,
            false_clock,
            three_brokers,
            small_disk,
        }
    }

    /// A PostgreSQL that allows prepared transactions.
    pub(crate) async fn two_phase(&self) -> &Instance {
        let settings = ["max_prepared_transactions=20"];
        self.two_phase.get_or_init(|| Instance::start_with(Kind::Postgres, &settings)).await
    }

    /// A transaction that is as old as the first call, on a server that nobody restarts.
    pub(crate) async fn old_transaction(&self) -> &OldTransaction {
        let begin = async || OldTransaction::begin(self.two_phase().await).await;
        self.old_transaction.get_or_init(begin).await
    }

    /// A PostgreSQL whose clock is what [`step_clock`](Self::step_clock) says.
    pub(crate) async fn false_clock(&self) -> &Instance {
        self.step_clock(0);
        let environment = false_clock_environment();
        let environment: Vec<_> = environment.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let environment = environment.join(" ");
        self.false_clock.get_or_init(|| Instance::start_in(&environment, Kind::Postgres, &[])).await
    }

    /// Three Kafka brokers.
    pub(crate) async fn three_brokers(&self) -> &Instance {
        self.three_brokers.get_or_init(|| Instance::start(Kind::Kafka3)).await
    }

    /// A small file system that a tablespace of the shared PostgreSQL lies on.
    pub(crate) async fn small_disk(&self) -> &SmallDisk {
        self.small_disk.get_or_init(|| SmallDisk::mount(&self.postgres)).await
    }

    /// Sets the false clock so many seconds beside the true one.
    #[allow(clippy::unused_self, reason = "there is one false clock an arena")]
    pub(crate) fn step_clock(&self, seconds: i64) {
        std::fs::write(clock_file(), format!("{seconds:+}\n")).expect("the clock can be set");
    }

    /// Mends whatever a cell has left that ended early.
    pub(crate) async fn mend(&self) {
        self.kafka_link.set(Network::Up);
        for service in [&self.postgres, &self.rabbitmq, &self.kafka] {
            service.start_again().await;
        }
        for service in [&self.rabbitmq, &self.kafka] {
            service.signal("CONT").await;
        }
        self.rabbitmq.rabbitmqctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await;
        self.rabbitmq.rabbitmqctl(&["set_disk_free_limit", "50MB"]).await;
        if let Some(brokers) = self.three_brokers.get() {
            for node in 1..=3 {
                brokers.start_node(node).await;
            }
        }
        if let Some(disk) = self.small_disk.get() {
            disk.empty();
        }
    }
}

/// What a process needs in its environment to see the false clock.
pub(crate) fn false_clock_environment() -> Vec<(&'static str, String)> {
    let library = faketime_library().unwrap_or_default();
    vec![
        ("LD_PRELOAD", library.to_string_lossy().into_owned()),
        ("FAKETIME_TIMESTAMP_FILE", clock_file().to_string_lossy().into_owned()),
        ("FAKETIME_CACHE_DURATION", "1".into()),
        // A real step of the clock leaves the monotonic one alone.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ("DONT_FAKE_MONOTONIC", "1".into()),
    ]
}

/// Where libfaketime is, if it is.
pub(crate) fn faketime_library() -> Option<PathBuf> {
    let architectures = Path::new("/usr/lib").read_dir().ok()?.flatten();
    architectures.map(|folder| folder.path().join(FAKETIME)).find(|path| path.exists())
}

fn clock_file() -> PathBuf {
    Services::folder().join("clock")
}
