//! The pipelines of this process that share a broker: what one of them hears, the others know.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{BrokerConfig, TargetConfig};

/// The brokers of this process.
#[derive(Debug, Clone, Default)]
pub struct Neighbours(BTreeMap<String, Arc<watch::Sender<()>>>);

/// A pipeline's ear, and its voice, among those with the same broker.
#[derive(Debug, Clone)]
pub struct Neighbour {
    answers: watch::Receiver<()>,
    voice: Arc<watch::Sender<()>>,
}

impl Neighbours {
    /// Those of a configuration.
    #[must_use]
    pub fn new(targets: &[TargetConfig]) -> Self {
        let broker = |target: &TargetConfig| (address(&target.broker), Arc::default());
        Self(targets.iter().map(broker).collect())
    }

    /// A pipeline's own.
    #[must_use]
    pub fn of(&self, broker: &BrokerConfig) -> Neighbour {
        let voice = self.0.get(&address(broker)).map_or_else(Arc::default, Arc::clone);
        Neighbour { answers: voice.subscribe(), voice }
    }
}

impl Neighbour {
    /// The broker has answered this pipeline: those that wait for it need not wait any longer.
    pub(super) fn answered(&mut self) {
        self.voice.send_replace(());
        // It is no news to this one.
        self.answers.mark_unchanged();
    }

    /// Waits until the broker has answered another pipeline.
    ///
    /// Cancel safety: an answer stays until it was told once.
    pub(super) async fn heard(&mut self) {
        if self.answers.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// What was heard so far is old.
    pub(super) fn forget(&mut self) {
        self.answers.mark_unchanged();
    }
}

/// The same for every way to write the same servers: virtual host, user and order do not matter.
fn address(broker: &BrokerConfig) -> String {
    match broker {
        BrokerConfig::Amqp(amqp) => {
            let (scheme, rest) = amqp.url.split_once("://").unwrap_or(("", &amqp.url));
            let authority = rest.split(['/', '?']).next().unwrap_or(rest);
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let port = if scheme == "amqps" { "5671" } else { "5672" };
            format!("amqp {}", with_port(host, port))
        }
        BrokerConfig::Kafka(kafka) => {
            let brokers = kafka.brokers.split(',').map(str::trim).filter(|name| !name.is_empty());
            let mut brokers: Vec<String> = brokers.map(|name| with_port(name, "9092")).collect();
            brokers.sort();
            format!("kafka {}", brokers.join(","))
        }
    }
}

fn with_port(address: &str, default: &str) -> String {
    let host = if address.is_empty() { "localhost" } else { address };
    // The colons of an IPv6 address stand in brackets.
    match host.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host.to_lowercase(),
        _ => format!("{}:{default}", host.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{AmqpConfig, AmqpFence, KafkaConfig, KafkaFence, TlsConfig};

    fn amqp(url: &str) -> String {
        address(&BrokerConfig::Amqp(AmqpConfig {
            url: url.into(),
            password: None,
            tls: TlsConfig::default(),
            heartbeat: Duration::ZERO,
            fence: AmqpFence::Off,
            connect_timeout: Duration::ZERO,
        }))
    }

    fn kafka(brokers: &str) -> String {
        address(&BrokerConfig::Kafka(KafkaConfig {
            timestamp: crate::config::KafkaTimestamp::Sent,
            brokers: brokers.into(),
            linger: Duration::ZERO,
            compression: String::new(),
            fence: KafkaFence::Off,
            tls: TlsConfig::default(),
            properties: Vec::new(),
            secret_properties: Vec::new(),
            connect_timeout: Duration::ZERO,
        }))
    }

    #[test]
    fn a_broker_is_known_by_its_addresses() {
        assert_eq!(amqp("amqp://a@MQ/%2f"), amqp("amqp://b@mq:5672/other?heartbeat=1"));
        assert_eq!(amqp("amqps://a@mq"), amqp("amqps://mq:5671"));
        assert_ne!(amqp("amqp://a@mq"), amqp("amqps://a@mq"));
        assert_eq!(amqp("amqp://[::1]/%2f"), amqp("amqp://[::1]:5672/%2f"));
        assert_eq!(kafka("k1:9092,k2"), kafka("k2:9092, K1"));
        assert_ne!(kafka("k1:9092"), kafka("k1:9093"));
    }

    #[tokio::test]
    async fn an_answer_is_heard_by_the_others_alone() {
        let voice = Arc::<watch::Sender<()>>::default();
        let hear = || Neighbour { answers: voice.subscribe(), voice: Arc::clone(&voice) };
        let (mut one, mut other) = (hear(), hear());
        one.answered();
        other.heard().await;
        // Neither of them has anything more to hear.
        for neighbour in [&mut one, &mut other] {
            let mut heard = std::pin::pin!(neighbour.heard());
            assert!(futures_util::poll!(heard.as_mut()).is_pending());
        }
    }
}
