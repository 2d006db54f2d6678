//! The relay as it comes, with the bench's changes to its settings.

use crate::arguments::Arguments;
use crate::meter::Meter;
use crate::support::consumer::{AmqpDestination, Destination};
use crate::support::relay::{RelayConfig, quoted};

/// The names of the targets, and of their sections on the command line.
const AMQP: &str = "amqp";
const KAFKA: &str = "kafka";

/// The configuration that takes every row to these destinations, as by default otherwise.
pub(crate) fn config(database_url: &str, meters: &[&Meter], arguments: &Arguments) -> RelayConfig {
    let mut config = RelayConfig::new(database_url).set("log", "level", quoted("info"));
    for meter in meters {
        config = target(config, meter);
    }
    for (section, key, value) in &arguments.changes {
        let name = if section == "source" { section.clone() } else { format!("target.{section}") };
        let there = meters.iter().any(|meter| section == "source" || section == kind(meter));
        if there {
            config = config.set(&name, key, value);
        }
    }
    config
}

fn target(config: RelayConfig, meter: &Meter) -> RelayConfig {
    match meter {
        Meter::Kafka { topic, .. } => config.target(KAFKA, &Destination::Kafka(topic.clone())),
        Meter::Amqp { queue, .. } => {
            // The default exchange: the bare publisher uses it as well.
            let destination = AmqpDestination {
                url: queue.url.clone(),
                exchange: String::new(),
                queue: queue.name.clone(),
            };
            let route = format!(
                "[{{ topic = \"*\", exchange = \"\", routing_key = {} }}]",
                quoted(&queue.name)
            );
            config.target(AMQP, &Destination::Amqp(destination)).set(
                &format!("target.{AMQP}"),
                "route",
                route,
            )
        }
    }
}

fn kind(meter: &Meter) -> &'static str {
    match meter {
        Meter::Amqp { .. } => AMQP,
        Meter::Kafka { .. } => KAFKA,
    }
}
