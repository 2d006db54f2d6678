//! The broker's part of `check`: connects, asks for the destinations, disconnects.

use crate::admin::check::Finding;
use crate::config::{BrokerConfig, TargetConfig};
use crate::target::amqp::AmqpTarget;
use crate::target::kafka::KafkaTarget;
use crate::target::{ConnectError, Target};

/// What there is to say of one target's broker. Nothing is published or declared.
pub(super) async fn look(target: &TargetConfig) -> Vec<Finding> {
    let routes = target.routes.clone();
    match &target.broker {
        BrokerConfig::Amqp(broker) => {
            let window = target.window_messages_max;
            ask(&target.name, AmqpTarget::new(broker.clone(), routes, window)).await
        }
        BrokerConfig::Kafka(broker) => {
            ask(&target.name, KafkaTarget::new(broker.clone(), routes)).await
        }
    }
}

async fn ask(name: &str, mut target: impl Target) -> Vec<Finding> {
    let subject = format!("target {name}");
    match target.connect().await {
        Ok(()) => {}
        Err(ConnectError::Outage(reason)) => {
            let remedy = "start the broker, or correct its address; the relay waits for it";
            return vec![Finding::down(&subject, reason, remedy)];
        }
        Err(ConnectError::Configuration { reason, hint }) => {
            return vec![Finding::fail(&subject, reason, hint)];
        }
    }
    let mut findings = vec![Finding::ok(&subject, "broker reachable")];
    let remedy = "create it, or correct the route: until then its messages are refused";
    for missing in target.missing_destinations().await {
        findings.push(Finding::fail(&subject, missing, remedy));
    }
    target.disconnect().await;
    findings
}
