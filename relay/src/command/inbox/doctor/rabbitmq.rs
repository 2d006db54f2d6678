//! What the doctor asks RabbitMQ: where a consumer's dead letters go, and how long they stay there.

use anyhow::anyhow;

use crate::admin::check::{Finding, management_in_plain_text};
use crate::admin::inbox::doctor::Window;
use crate::config::{BrokerConfig, Config, TlsConfig};
use crate::exit::Failure;
use crate::target::amqp::management::{Address, DeadLetters, Management};

/// Arguments about RabbitMQ.
#[derive(Debug, clap::Args)]
pub(super) struct RabbitmqArgs {
    /// RabbitMQ's management API, `https://user:password@host:15671`; the user needs the tag `monitoring` or `management`. Best in the environment.
    #[arg(
        long,
        env = "OUTBOX_RELAY_RABBITMQ_MANAGEMENT",
        hide_env_values = true,
        value_name = "URL"
    )]
    rabbitmq_management: Option<String>,
    /// A queue that the consumer reads: RabbitMQ is asked where its dead letters go, and how long they are kept there. May be repeated.
    #[arg(long, value_name = "NAME")]
    queue: Vec<String>,
    /// With --queue: its virtual host.
    #[arg(long, value_name = "NAME", default_value = "/")]
    vhost: String,
    /// With an https:// url: the target of the configuration whose `tls` says what to trust. Without it the only one of
    /// kind amqp, if the configuration is read; the system's roots else.
    #[arg(long, value_name = "NAME", requires = "rabbitmq_management")]
    rabbitmq_target: Option<String>,
}

impl RabbitmqArgs {
    /// Whether it needs the configuration.
    pub(super) fn names_a_target(&self) -> bool {
        self.rabbitmq_target.is_some()
    }

    /// What an https:// url is verified by.
    fn trusted(&self, config: Option<&Config>) -> Result<TlsConfig, Failure> {
        let targets = config.map_or(&[][..], |config| &config.targets);
        let all = targets.iter().filter_map(|target| match &target.broker {
            BrokerConfig::Amqp(amqp) => Some((target.name.as_str(), &amqp.tls)),
            BrokerConfig::Kafka(_) => None,
        });
        let all: Vec<_> = all.collect();
        let Some(name) = &self.rabbitmq_target else {
            let only = if let [(_, tls)] = all.as_slice() { Some(*tls) } else { None };
            return Ok(only.cloned().unwrap_or_default());
        };
        let named = all.iter().find(|(known, _)| known == name);
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        named.map(|(_, tls)| (*tls).clone()).ok_or_else(|| {
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Failure::from(anyhow!(
                "there is no target {name:?} of kind amqp in the configuration\n\
                 hint: there are: {names}"
            ))
        })
    }
}

const UNASKED: &str = "the address, for https the CA (--rabbitmq-target), the queue's name, its --vhost, \
                       the user's tag and permissions, or --dead-letter-ttl";
const DROPPED: &str =
    "a dead letter exchange with a queue: the consumer rejects what it has parked";

/// Asks about every queue that was named: what may come again from it, and what is wrong with it.
pub(super) async fn ask(
    args: RabbitmqArgs,
    config: Option<&Config>,
) -> Result<(Vec<Window>, Vec<Finding>), Failure> {
    let (mut windows, mut findings) = (Vec::new(), Vec::new());
    if args.queue.is_empty() {
        return Ok((windows, findings));
    }
    let url = args.rabbitmq_management.as_deref().ok_or_else(|| {
        Failure::Usage(anyhow!(
            "--queue is asked of RabbitMQ's management API, and no address is given\n\
             hint: OUTBOX_RELAY_RABBITMQ_MANAGEMENT, or --rabbitmq-management"
        ))
    })?;
    let address = Address::parse(url).map_err(|reason| {
        Failure::Usage(anyhow!(
            "--rabbitmq-management: {reason}\nhint: https://USER:PASSWORD@HOST:15671"
        ))
    })?;
    findings.extend(management_in_plain_text(&address));
    let management = Management::new(address, &args.trusted(config)?);
    let management = management
        .map_err(|reason| Failure::configuration(anyhow!("--rabbitmq-management: {reason}")))?;
    for queue in &args.queue {
        let subject = format!("queue {queue}");
        match management.dead_letters(&args.vhost, queue).await {
            Err(reason) => findings.push(Finding::down(&subject, reason, UNASKED)),
            Ok(DeadLetters::NoQueue) => {
                findings.push(Finding::fail(&subject, "there is no such queue", UNASKED));
            }
            Ok(DeadLetters::Dropped) => {
                let detail = "it has no dead letter exchange: what is parked is dropped";
                findings.push(Finding::warn(&subject, detail, DROPPED));
            }
            Ok(DeadLetters::Unbound(exchange)) => {
                let detail = format!(
                    "its dead letter exchange {exchange:?} leads to no queue: what is parked is dropped"
                );
                findings.push(Finding::warn(&subject, detail, DROPPED));
            }
            Ok(DeadLetters::Kept(queues)) => {
                windows.extend(queues.into_iter().map(|(name, duration)| Window {
                    name: format!("dead letters of {queue} in {name}"),
                    duration,
                }));
            }
        }
    }
    Ok((windows, findings))
}
