//! The TOML that a test gives to the daemon.

use crate::support::consumer::{AmqpDestination, Destination, KafkaDestination};

/// The header of a tagged relay.
pub(crate) const RELAY_TAG: &str = "relay";

/// A configuration under construction: one table of lines a section.
#[derive(Debug, Clone)]
pub(crate) struct RelayConfig {
    sections: Vec<(String, Vec<String>)>,
}

impl RelayConfig {
    /// Reads from `database_url`; no target yet. Pauses are short, so that tests are.
    pub(crate) fn new(database_url: &str) -> Self {
        Self { sections: Vec::new() }.set("database", "url", quoted(database_url)).set(
            "log",
            "level",
            quoted("outbox_relay=debug,warn"),
        )
    }

    /// Sets a key to a TOML value; a second time replaces the first.
    pub(crate) fn set(mut self, section: &str, key: &str, value: impl ToString) -> Self {
        let at = self.sections.iter().position(|(name, _)| name == section).unwrap_or_else(|| {
            self.sections.push((section.into(), Vec::new()));
            self.sections.len() - 1
        });
        let lines = &mut self.sections[at].1;
        let start = format!("{key} = ");
        lines.retain(|line| !line.starts_with(&start));
        lines.push(start + &value.to_string());
        self
    }

    /// Adds a target that takes every row to `destination`.
    pub(crate) fn target(self, name: &str, destination: &Destination) -> Self {
        match destination {
            Destination::Amqp(amqp) => self.amqp(name, amqp),
            Destination::Kafka(kafka) => self.kafka(name, kafka),
        }
    }

    /// Adds an AMQP target that takes every row.
    pub(crate) fn amqp(self, name: &str, destination: &AmqpDestination) -> Self {
        let AmqpDestination { url, exchange, .. } = destination;
        let route = format!(
            "[{{ topic = \"*\", exchange = \"{exchange}\", routing_key = \"{{{{ topic }}}}\" }}]"
        );
        let section = format!("target.{name}");
        self.set(&section, "kind", quoted("amqp"))
            .set(&section, "url", quoted(url))
            .set(&section, "route", route)
            .set(&section, "outage_backoff_max", quoted("500ms"))
    }

    /// Adds a Kafka target that takes every row.
    pub(crate) fn kafka(self, name: &str, destination: &KafkaDestination) -> Self {
        let KafkaDestination { brokers, topic, .. } = destination;
        let section = format!("target.{name}");
        self.set(&section, "kind", quoted("kafka"))
            .set(&section, "brokers", quoted(brokers))
            .set(&section, "route", format!("[{{ topic = \"*\", kafka_topic = \"{topic}\" }}]"))
            .set(&section, "outage_backoff_max", quoted("500ms"))
    }

    /// Without a section.
    pub(crate) fn without(mut self, section: &str) -> Self {
        self.sections.retain(|(name, _)| name != section);
        self
    }

    /// Every message of this relay says so in a header, [`RELAY_TAG`], that is no part of its content.
    pub(crate) fn tagged(mut self, relay: &str) -> Self {
        let header = format!(", headers = {{ {RELAY_TAG} = {} }} }}]", quoted(relay));
        let lines = self.sections.iter_mut().flat_map(|(_, lines)| lines);
        for line in lines.filter(|line| line.starts_with("route = ")) {
            let route = line.strip_suffix(" }]").expect("one route a target").to_owned();
            *line = route + &header;
        }
        self
    }

    /// The file.
    pub(crate) fn text(&self) -> String {
        let section =
            |(name, lines): &(String, Vec<String>)| format!("[{name}]\n{}\n", lines.join("\n"));
        self.sections.iter().map(section).collect()
    }
}

/// A TOML string.
pub(crate) fn quoted(text: &str) -> String {
    format!("{text:?}")
}
