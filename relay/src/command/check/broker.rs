//! The broker's part of `check`: connects, looks at the destinations, tries the fence, disconnects.

use std::collections::BTreeMap;

use lapin::uri::AMQPUri;
use uuid::Uuid;

use super::destination::{self, Destinations, Known};
use crate::admin::check::{Finding, management_in_plain_text};
use crate::broker::{self, Broker};
use crate::cause::Cause;
use crate::config::{AmqpConfig, AmqpFence, BrokerConfig, KafkaConfig, KafkaFence, TargetConfig};
use crate::message::Message;
use crate::target::amqp::AmqpTarget;
use crate::target::amqp::management::{Address, Management};
use crate::target::amqp::probe::{Place, Trouble, probe};
use crate::target::fence::FenceName;
use crate::target::kafka::KafkaTarget;
use crate::target::{ConnectError, Target};

const MISSING: &str = "create it, or correct the route: until then its messages are refused";

/// What is known of the outbox when the brokers are looked at.
#[derive(Default)]
pub(super) struct Outbox {
    /// Names the fences; without a database it is not known, and they are not tried. A copy must not try
    /// them either: they are those of the original.
    pub(super) id: Option<Uuid>,
    /// By target: where its messages went so far.
    pub(super) brokers: BTreeMap<String, Broker>,
    /// Rows that stand for the others.
    pub(super) sample: Vec<Message>,
}

/// What there is to say of one target's broker. No message is delivered by it. `noted`: where the
/// target's messages went so far.
pub(super) async fn look(
    target: &TargetConfig,
    outbox: &Outbox,
    noted: Option<&Broker>,
    management: Option<&Address>,
) -> Vec<Finding> {
    let routes = target.routes.clone();
    let name = FenceName::new(outbox.id.unwrap_or_default(), &target.name);
    let subject = format!("target {}", target.name);
    match &target.broker {
        BrokerConfig::Amqp(broker) => {
            let window = target.window_messages_max;
            let open = AmqpConfig { fence: AmqpFence::Off, ..broker.clone() };
            let mut open = AmqpTarget::new(open, routes, window, name.clone());
            let (mut findings, connected) = connect(&target.name, &mut open, noted).await;
            open.farewell().await;
            if connected {
                let places = destination::places(&target.routes, &outbox.sample);
                findings.extend(write_to(&subject, broker, &places).await);
                findings.extend(lead_on(&subject, broker, &places, management).await);
            }
            if broker.fence == AmqpFence::ExclusiveQueue && outbox.id.is_some() {
                let fenced = AmqpTarget::new(broker.clone(), Vec::new(), window, name);
                findings.extend(try_fence(&target.name, fenced).await);
            }
            findings
        }
        BrokerConfig::Kafka(broker) => {
            // Connecting with the fence would take it from the leader.
            let open = KafkaConfig { fence: KafkaFence::Off, ..broker.clone() };
            let mut open = KafkaTarget::new(open, routes, name);
            let (mut findings, connected) = connect(&target.name, &mut open, noted).await;
            if connected {
                let topics = destination::topics(&target.routes, &outbox.sample);
                let names = topics.all.keys().cloned().collect();
                for (topic, reason) in open.missing_topics(names).await {
                    findings.push(unusable(&subject, topics.all.get(&topic), reason, MISSING));
                }
                // librdkafka tells no client what its user may do, short of doing it.
                let looked_at = topics.looked_at("topics");
                let detail =
                    format!("{looked_at}; whether the user may write to them is not checked");
                findings.push(Finding::ok(&subject, detail));
            }
            open.farewell().await;
            findings
        }
    }
}

/// And whether there is a connection.
async fn connect(
    name: &str,
    target: &mut impl Target,
    noted: Option<&Broker>,
) -> (Vec<Finding>, bool) {
    let subject = &format!("target {name}");
    let finding = match target.connect().await {
        Ok(()) => {
            let mut findings = vec![Finding::ok(subject, "broker reachable")];
            if let Some(present) = target.broker()
                && let Some((reason, hint)) = broker::refusal(name, noted, &present)
            {
                findings.push(Finding::fail(subject, reason, hint));
            }
            return (findings, true);
        }
        Err(ConnectError::Outage(reason) | ConnectError::Fenced(reason)) => {
            let Cause { reason, hint } = reason.into();
            let remedy = "start the broker, or correct its address; the relay waits for it";
            let remedy = hint.unwrap_or_else(|| remedy.to_owned());
            Finding::down(subject, reason, remedy)
        }
        Err(ConnectError::Configuration { reason, hint }) => Finding::fail(subject, reason, hint),
    };
    (vec![finding], false)
}

/// What a route names has to be there; a row in the table may be an old one.
fn unusable(subject: &str, known: Option<&Known>, reason: String, remedy: &str) -> Finding {
    match known {
        Some(Known::ByRow) => {
            Finding::warn(subject, format!("{reason}; rows in the table go there"), remedy)
        }
        Some(Known::ByRoute) | None => Finding::fail(subject, reason, remedy),
    }
}

/// Whether exchanges are there, and the user may write to them.
async fn write_to(
    subject: &str,
    broker: &AmqpConfig,
    destinations: &Destinations<Place>,
) -> Vec<Finding> {
    let places: Vec<Place> = destinations.all.keys().cloned().collect();
    let troubles = match probe(broker, &places).await {
        Ok(troubles) => troubles,
        Err(error) => return vec![not_looked_at(subject, &error.to_string())],
    };
    let mut findings = Vec::new();
    for (place, trouble) in troubles {
        let known = destinations.all.get(place);
        findings.push(match trouble {
            Trouble::Missing(reason) => unusable(subject, known, reason, MISSING),
            Trouble::Forbidden(reason) => {
                unusable(subject, known, reason, &permission(place, broker))
            }
            Trouble::Unknown(reason) => not_looked_at(subject, &format!("{place}: {reason}")),
        });
    }
    findings.push(Finding::ok(subject, destinations.looked_at("destinations")));
    findings
}

fn not_looked_at(subject: &str, reason: &str) -> Finding {
    let detail = format!("destinations could not be looked at: {reason}");
    Finding::warn(subject, detail, "check again")
}

fn permission(place: &Place, broker: &AmqpConfig) -> String {
    // RabbitMQ looks at the default exchange under this name.
    let exchange = if place.exchange.is_empty() { "amq.default" } else { &place.exchange };
    let vhost = vhost(broker).unwrap_or_else(|| "/".to_owned());
    format!(
        "let the target's user write to {exchange:?} in virtual host {vhost:?} (rabbitmqctl \
         set_permissions, for a routing key set_topic_permissions), or correct the route: until then its \
         messages wait"
    )
}

fn vhost(broker: &AmqpConfig) -> Option<String> {
    broker.url.parse().ok().map(|uri: AMQPUri| uri.vhost)
}

/// Whether something is bound where messages go: RabbitMQ tells that over its management API alone.
async fn lead_on(
    subject: &str,
    broker: &AmqpConfig,
    destinations: &Destinations<Place>,
    management: Option<&Address>,
) -> Vec<Finding> {
    let Some(address) = management else {
        let detail = "bindings are not checked: that takes --rabbitmq-management";
        return vec![Finding::ok(subject, detail)];
    };
    let Some(vhost) = vhost(broker) else { return Vec::new() };
    let mut findings: Vec<Finding> = management_in_plain_text(address).into_iter().collect();
    let management = match Management::new(address.clone(), &broker.tls) {
        Ok(management) => management,
        Err(reason) => return vec![unasked(subject, reason)],
    };
    let mut by_exchange: BTreeMap<&str, Vec<Option<&str>>> = BTreeMap::new();
    // The default exchange leads to every queue, which was looked for already.
    for place in destinations.all.keys().filter(|place| !place.exchange.is_empty()) {
        by_exchange.entry(&place.exchange).or_default().push(place.routing_key.as_deref());
    }
    for (exchange, keys) in by_exchange {
        let unbound = match management.unbound(&vhost, exchange, &keys).await {
            Ok(unbound) => unbound,
            Err(reason) => {
                findings.push(unasked(subject, reason));
                return findings;
            }
        };
        for key in unbound {
            let place =
                Place { exchange: exchange.to_owned(), routing_key: key.map(str::to_owned) };
            findings.push(Finding::warn(
                subject,
                format!("{place}: it leads to no queue, so messages are returned, and wait"),
                "bind a queue to it, or correct the route",
            ));
        }
    }
    findings
}

fn unasked(subject: &str, reason: String) -> Finding {
    let remedy = "the address after --rabbitmq-management, for https the target's tls, the user's tag \
                  (monitoring or management)";
    Finding::down(subject, format!("RabbitMQ's management API: {reason}"), remedy)
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
