//! The broker's part of `check`: connects, asks for the destinations, tries the fence, disconnects.

use uuid::Uuid;

use crate::admin::check::Finding;
use crate::broker::{self, Broker};
use crate::cause::Cause;
use crate::config::{AmqpConfig, AmqpFence, BrokerConfig, KafkaConfig, KafkaFence, TargetConfig};
use crate::target::amqp::AmqpTarget;
use crate::target::fence::FenceName;
use crate::target::kafka::KafkaTarget;
use crate::target::{ConnectError, Target};

/// What there is to say of one target's broker. Nothing is published. `outbox_id` names the fence;
/// without a database it is not known, and the fence is not tried.
/// `noted`: where the target's messages went so far.
pub(super) async fn look(
    target: &TargetConfig,
    outbox_id: Option<Uuid>,
    noted: Option<&Broker>,
) -> Vec<Finding> {
    let routes = target.routes.clone();
    let name = FenceName::new(outbox_id.unwrap_or_default(), &target.name);
    match &target.broker {
        BrokerConfig::Amqp(broker) => {
            let window = target.window_messages_max;
            let open = AmqpConfig { fence: AmqpFence::Off, ..broker.clone() };
            let open = AmqpTarget::new(open, routes, window, name.clone());
            let mut findings = ask(&target.name, open, noted).await;
            if broker.fence == AmqpFence::ExclusiveQueue && outbox_id.is_some() {
                let fenced = AmqpTarget::new(broker.clone(), Vec::new(), window, name);
                findings.extend(try_fence(&target.name, fenced).await);
            }
            findings
        }
        BrokerConfig::Kafka(broker) => {
            // Connecting with the fence would take it from the leader.
            let open = KafkaConfig { fence: KafkaFence::Off, ..broker.clone() };
            ask(&target.name, KafkaTarget::new(open, routes, name), noted).await
        }
    }
}

async fn ask(name: &str, mut target: impl Target, noted: Option<&Broker>) -> Vec<Finding> {
    let subject = format!("target {name}");
    match target.connect().await {
        Ok(()) => {}
        Err(ConnectError::Outage(reason) | ConnectError::Fenced(reason)) => {
            let Cause { reason, hint } = reason.into();
            let remedy = "start the broker, or correct its address; the relay waits for it";
            let remedy = hint.unwrap_or_else(|| remedy.to_owned());
            return vec![Finding::down(&subject, reason, remedy)];
        }
        Err(ConnectError::Configuration { reason, hint }) => {
            return vec![Finding::fail(&subject, reason, hint)];
        }
    }
    let mut findings = vec![Finding::ok(&subject, "broker reachable")];
    if let Some(present) = target.broker()
        && let Some((reason, hint)) = broker::refusal(name, noted, &present)
    {
        findings.push(Finding::fail(&subject, reason, hint));
    }
    let remedy = "create it, or correct the route: until then its messages are refused";
    for missing in target.missing_destinations().await {
        findings.push(Finding::fail(&subject, missing, remedy));
    }
    target.farewell().await;
    findings
}

/// Whether the relay may hold its fence. RabbitMQ looks at the permission before it looks whether
/// somebody holds the queue, so a relay that runs is no obstacle; one that starts in this very moment
/// tries again.
async fn try_fence(name: &str, mut target: impl Target) -> Option<Finding> {
    let subject = format!("target {name}");
    match target.connect().await {
        Ok(()) => {
            target.farewell().await;
            Some(Finding::ok(&subject, "fence allowed"))
        }
        Err(ConnectError::Fenced(_)) => Some(Finding::ok(&subject, "fence allowed, and held")),
        Err(ConnectError::Configuration { reason, hint }) => {
            Some(Finding::fail(&subject, reason, hint))
        }
        // Said already.
        Err(ConnectError::Outage(_)) => None,
    }
}
