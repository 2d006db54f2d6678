//! One scene: a database of its own, destinations of its own at the brokers with a consumer each,
//! and the configuration that joins them.

use uuid::Uuid;

use super::checker::{Committed, Report, check};
use super::consumer::{AmqpDestination, Consumer, Destination, KafkaDestination, QueueKind};
use super::database::Database;
use super::progress;
use super::proxy::Proxy;
use super::relay::RelayConfig;
use super::services::Services;
use super::session::Session;

/// Everything of a test but the relay, which is what the test is about.
pub(crate) struct Stage {
    pub(crate) database: Database,
    pub(crate) config: RelayConfig,
    /// By the name of the target.
    pub(crate) consumers: Vec<(&'static str, Consumer)>,
}

impl Stage {
    /// No target yet. The relay connects as a role with a relay's rights and no more.
    pub(crate) async fn new(database: Database) -> Self {
        let config = RelayConfig::new(&database.url_as(&database.create_relay().await));
        Self { database, config, consumers: Vec::new() }
    }

    /// Target `amqp`, on a queue of its own.
    pub(crate) async fn with_amqp(self, url: &str, kind: QueueKind) -> Self {
        let destination = AmqpDestination::create(url, &unique(), kind).await;
        self.with("amqp", Destination::Amqp(destination))
    }

    /// Target `kafka`, on a topic of its own.
    pub(crate) async fn with_kafka(self, brokers: &str) -> Self {
        let destination = KafkaDestination::create(brokers, &unique(), 3).await;
        self.with("kafka", Destination::Kafka(destination))
    }

    /// Both brokers of the run.
    pub(crate) async fn both(database: Database) -> Self {
        let stage =
            Self::new(database).await.with_amqp(&Services::amqp(), QueueKind::Classic).await;
        stage.with_kafka(&Services::kafka()).await
    }

    pub(crate) fn with(mut self, name: &'static str, destination: Destination) -> Self {
        self.config = self.config.target(name, &destination);
        self.consumers.push((name, Consumer::start(destination)));
        self
    }

    /// With a network between the relay and its database.
    pub(crate) async fn behind_proxy(self) -> (Proxy, Self) {
        let role = format!("{}_relay", self.database.name);
        let (proxy, through) = Proxy::in_front_of(&self.database.url_as(&role)).await;
        (proxy, self.set("database", "url", format!("{through:?}")))
    }

    /// Sets a key of the configuration.
    pub(crate) fn set(mut self, section: &str, key: &str, value: impl ToString) -> Self {
        self.config = self.config.set(section, key, value);
        self
    }

    /// Target `amqp`'s destination.
    pub(crate) fn amqp(&self) -> &AmqpDestination {
        let mut destinations = self.consumers.iter().map(|(_, consumer)| consumer.destination());
        let amqp = destinations.find_map(|destination| match destination {
            Destination::Amqp(amqp) => Some(amqp),
            Destination::Kafka(_) => None,
        });
        amqp.expect("the stage has a target `amqp`")
    }

    /// Target `kafka`'s destination.
    pub(crate) fn kafka(&self) -> &KafkaDestination {
        let mut destinations = self.consumers.iter().map(|(_, consumer)| consumer.destination());
        let kafka = destinations.find_map(|destination| match destination {
            Destination::Kafka(kafka) => Some(kafka),
            Destination::Amqp(_) => None,
        });
        kafka.expect("the stage has a target `kafka`")
    }

    pub(crate) async fn session(&self) -> Session {
        self.database.connect().await
    }

    /// The exchange of the AMQP target.
    pub(crate) fn exchange(&self) -> &str {
        let amqp = self.consumers.iter().find_map(|(_, consumer)| consumer.exchange());
        amqp.expect("the stage has an AMQP target")
    }

    /// Waits until every target has settled every row.
    pub(crate) async fn wait_settled(&self) {
        progress::wait_settled(&self.session().await, self.consumers.len()).await;
    }

    /// Waits until every consumer has `count` distinct messages.
    pub(crate) async fn wait_received(&self, count: usize) {
        for (_, consumer) in &self.consumers {
            consumer.wait_received(count).await;
        }
    }

    /// Reads every destination to its end and compares.
    pub(crate) async fn reports(&self, journal: &[Committed]) -> Vec<(&'static str, Report)> {
        let mut reports = Vec::new();
        for (name, consumer) in &self.consumers {
            consumer.drain().await;
            reports.push((*name, check(journal, &consumer.deliveries())));
        }
        reports
    }

    /// # Panics
    /// Unless every destination has everything, in order, and its duplicates are identical.
    pub(crate) async fn assert_exact(&self, journal: &[Committed]) -> Vec<(&'static str, Report)> {
        let reports = self.reports(journal).await;
        for (name, report) in &reports {
            report.assert_exact(name);
        }
        reports
    }
}

/// A name that no other test uses.
pub(crate) fn unique() -> String {
    format!("t-{}", Uuid::now_v7().simple())
}
