//! The machine, and the versions of everything that runs on it.

use serde::{Deserialize, Serialize};

use crate::rig::Rig;
use crate::support::relay;
use crate::support::session::Session;

/// What the figures depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// Name and version.
    pub(crate) software: Vec<(String, String)>,
    /// Name and value of what was not left as it comes.
    pub(crate) settings: Vec<(String, String)>,
    /// The load average of the last minute when the run began: above a fraction of one, somebody else
    /// was measured as well.
    pub(crate) load: f64,
}

/// What PostgreSQL is asked for the page.
const SETTINGS: [&str; 6] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
    "wal_level",
];

impl Machine {
    pub(crate) async fn look(rig: &Rig) -> Self {
        let session = Session::connect(rig.postgres.url()).await;
        let mut settings = Vec::new();
        for name in SETTINGS {
            settings.push((format!("PostgreSQL {name}"), show(&session, name).await));
        }
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "unknown".into());
        settings.push(("Kafka heap".into(), variable("OUTBOX_DEV_KAFKA_HEAP")));
        settings.push(("RabbitMQ memory".into(), variable("OUTBOX_DEV_RABBITMQ_MEMORY")));
        let relay = relay::raw_command(&["--version"]).await.stdout;
        let relay = String::from_utf8_lossy(&relay);
        let relay = relay.trim().trim_start_matches("outbox-relay ");
        let commit = variable("OUTBOX_BENCH_COMMIT");
        // Behind the dash everybody writes what he likes.
        let kernel = read("/proc/sys/kernel/osrelease");
        let software = vec![
            ("outbox-relay".into(), format!("{relay} ({commit})")),
            ("PostgreSQL".into(), show(&session, "server_version").await),
            ("Apache Kafka".into(), variable("OUTBOX_BENCH_KAFKA_VERSION")),
            ("RabbitMQ".into(), rig.rabbitmq.rabbitmqctl(&["version"]).await.trim().into()),
            ("librdkafka".into(), rdkafka::util::get_rdkafka_version().1),
        ];
        Self {
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kibibytes(&field("/proc/meminfo", "MemTotal")) / 1048576.0,
            kernel: kernel.split('-').next().unwrap_or_default().trim().into(),
            software,
            settings,
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0.0),
        }
    }

    /// Whether figures of both belong on one page.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let without_load = |machine: &Self| Self { load: 0.0, ..machine.clone() };
        without_load(self) == without_load(other)
    }

    /// On three lines: the machine, the software, the settings.
    pub(crate) fn describe(&self) -> String {
        let pairs = |list: &[(String, String)]| {
            let pairs: Vec<_> =
                list.iter().map(|(name, value)| format!("{name} {value}")).collect();
            pairs.join(", ")
        };
        format!(
            "{} cores of {}, {:.0} GiB, Linux {}\n{}\n{}",
            self.cores,
            self.processor,
            self.memory_gib,
            self.kernel,
            pairs(&self.software),
            pairs(&self.settings)
        )
    }
}

async fn show(session: &Session, setting: &str) -> String {
    let row = session.query_one(&format!("SHOW {setting}"), &[]).await;
    row.expect("PostgreSQL knows its settings").get(0)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// The value of the first line `NAME : VALUE`.
fn field(file: &str, name: &str) -> String {
    let text = read(file);
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned());
    found.unwrap_or_else(|| "unknown".into())
}

fn kibibytes(text: &str) -> f64 {
    text.trim_end_matches(" kB").parse().unwrap_or(0.0)
}
