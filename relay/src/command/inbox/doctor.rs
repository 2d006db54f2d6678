//! `outbox-relay inbox doctor`

mod rabbitmq;

use std::time::Duration;

use anyhow::anyhow;

use super::place::PlaceArgs;
use crate::admin::check::{self, Finding, Level};
use crate::admin::inbox::doctor::{self, Window};
use crate::command::{age, link, output};
use crate::config::{BrokerConfig, Config, KafkaConfig};
use crate::exit::Failure;
use crate::target::kafka::setting::{Retention, retention};

/// Arguments of `inbox doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// How long Kafka keeps the consumed topics (`retention.ms`): compared with the inbox's retention.
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    kafka_retention: Option<Duration>,
    /// A topic that the consumer reads: its retention is asked of the Kafka of the configuration. May be repeated.
    #[arg(long, value_name = "TOPIC")]
    kafka_topic: Vec<String>,
    /// With --kafka-topic: the target with that Kafka; not needed if there is one only.
    #[arg(long, value_name = "NAME", requires = "kafka_topic")]
    target: Option<String>,
    #[command(flatten)]
    rabbitmq: rabbitmq::RabbitmqArgs,
    /// How long a message may be a dead letter before somebody sends it again, where RabbitMQ is not asked by --queue.
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    dead_letter_ttl: Option<Duration>,
    /// How far back the producer's outbox can be replayed (`retention.keep` there).
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    outbox_retention: Option<Duration>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const UNASKED: &str = "the topic's name, the right DescribeConfigs, or --kafka-retention";

pub(super) async fn run(
    args: DoctorArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let mut windows: Vec<Window> = [
        ("kafka retention", args.kafka_retention),
        ("dead letters", args.dead_letter_ttl),
        ("outbox retention", args.outbox_retention),
    ]
    .into_iter()
    .filter_map(|(name, duration)| {
        Some(Window { name: name.to_owned(), duration: Some(duration?) })
    })
    .collect();
    let needed = !args.kafka_topic.is_empty() || args.rabbitmq.names_a_target();
    let config = if needed || !args.place.has_url() { Some(load()?) } else { None };
    let (asked, mut unasked) = rabbitmq::ask(args.rabbitmq, config.as_ref()).await?;
    windows.extend(asked);
    for (topic, config) in args.kafka_topic.iter().zip(config.iter().cycle()) {
        let kafka = kafka(config, args.target.as_deref())?;
        let name = format!("topic {topic}");
        match retention(kafka, topic).await {
            Ok(Retention::ForEver) => windows.push(Window { name, duration: None }),
            Ok(Retention::For(age)) => windows.push(Window { name, duration: Some(age) }),
            Err(reason) => unasked.push(Finding::down(&name, reason, UNASKED)),
        }
    }
    let loaded = || Ok(config.expect("it is loaded where there is no url"));
    let (session, schema) = args.place.connect(loaded).await?;
    let found = doctor::doctor(&session, &schema, &windows).await.map_err(link::in_database)?;
    let findings = [found, unasked].concat();
    output::answer(args.json, &findings, || crate::command::check::render(&findings))?;
    let failed = findings.iter().filter(|finding| finding.level >= Level::Down).count();
    match check::worst(&findings) {
        Level::Ok | Level::Warn => Ok(()),
        Level::Down | Level::Fail => {
            Err(Failure::Configuration(anyhow!("{failed} of {} checks failed", findings.len())))
        }
    }
}

/// The Kafka of the target of this name, or of the only one that has one.
fn kafka<'a>(config: &'a Config, target: Option<&str>) -> Result<&'a KafkaConfig, Failure> {
    let all = config.targets.iter().filter_map(|known| match &known.broker {
        BrokerConfig::Kafka(kafka) => Some((known.name.as_str(), kafka)),
        BrokerConfig::Amqp(_) => None,
    });
    let all: Vec<_> = all.collect();
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    match (target, all.as_slice()) {
        (None, [(_, kafka)]) => Ok(kafka),
        (None, _) => Err(Failure::Usage(anyhow!(
            "which Kafka? of kind kafka there are: {names}\nhint: --target NAME"
        ))),
        (Some(name), all) => {
            let named = all.iter().find(|(known, _)| *known == name);
            named.map(|(_, kafka)| *kafka).ok_or_else(|| {
                Failure::from(anyhow!(
                    "there is no target {name:?} of kind kafka in the configuration\n\
                     hint: there are: {names}"
                ))
            })
        }
    }
}
