//! What the doctor asks RabbitMQ: where a consumer's dead letters go, and how long they stay there.

use anyhow::anyhow;

use crate::admin::check::Finding;
use crate::admin::inbox::doctor::Window;
use crate::exit::Failure;
use crate::target::amqp::management::{DeadLetters, Management};

/// Arguments about RabbitMQ.
#[derive(Debug, clap::Args)]
pub(super) struct RabbitmqArgs {
    /// RabbitMQ's management API, `http://user:password@host:15672`; the user needs the tag `monitoring` or `management`. Best in the environment.
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
}

const UNASKED: &str =
    "the queue's name, its --vhost, the user's tag and permissions, or --dead-letter-ttl";
const DROPPED: &str =
    "a dead letter exchange with a queue: the consumer rejects what it has parked";

/// Asks about every queue that was named: what may come again from it, and what is wrong with it.
pub(super) async fn ask(args: RabbitmqArgs) -> Result<(Vec<Window>, Vec<Finding>), Failure> {
    let (mut windows, mut findings) = (Vec::new(), Vec::new());
    if args.queue.is_empty() {
        return Ok((windows, findings));
    }
    let url = args.rabbitmq_management.ok_or_else(|| {
        Failure::Usage(anyhow!(
            "--queue is asked of RabbitMQ's management API, and no address is given\n\
             hint: OUTBOX_RELAY_RABBITMQ_MANAGEMENT, or --rabbitmq-management"
        ))
    })?;
    let management = Management::parse(&url).map_err(|reason| {
        Failure::Usage(anyhow!(
            "--rabbitmq-management: {reason}\nhint: http://USER:PASSWORD@HOST:15672"
        ))
    })?;
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
