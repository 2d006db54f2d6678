//! `route = [{ … }]` of a target.

use std::fmt::Display;

use super::default::{DEFAULT_MANDATORY, DEFAULT_ROUTING_KEY};
use super::raw::{RawRoute, RawTarget, Scalar, Setting};
use super::section::Section;
use super::target::Kind;
use crate::header::{ARRAY_HEADERS, check_name};
use crate::route::{Destination, Pattern, RouteConfig, Template};

const CONTENT_TYPE: &str = "content-type";

/// An AMQP short string: exchange, routing key.
const SHORT_STRING_BYTES_MAX: usize = 255;

pub(super) fn check(raw: &RawTarget, kind: Kind, s: &mut Section<'_>) -> Vec<RouteConfig> {
    let example = match kind {
        Kind::Amqp => "[{ topic = \"*\", exchange = \"events\", routing_key = \"{{ topic }}\" }]",
        Kind::Kafka => "[{ topic = \"*\", kafka_topic = \"{{ topic }}\" }]",
    };
    match raw.route.as_deref() {
        None => {
            s.missing("route", example);
            Vec::new()
        }
        Some([]) => {
            s.refuse_key(
                "route",
                "there is no route, so every row would be settled unsent",
                format!("write route = {example}"),
            );
            Vec::new()
        }
        Some(routes) => routes
            .iter()
            .enumerate()
            .filter_map(|(n, raw)| one(&raw.0, kind, &mut s.element("route", n)))
            .collect(),
    }
}

/// `None` if something is missing or wrong, which is reported.
fn one(raw: &RawRoute, kind: Kind, s: &mut Section<'_>) -> Option<RouteConfig> {
    refuse_other_kind(raw, kind, s);
    if raw.topic.is_none() {
        s.missing("topic", "\"*\"");
    }
    let topic = parsed(s, "topic", &raw.topic, Pattern::parse);
    let message_type = parsed(s, "type", &raw.r#type, Pattern::parse);
    let destination = match kind {
        Kind::Amqp => amqp(raw, s),
        Kind::Kafka => kafka(raw, s),
    };
    Some(RouteConfig { topic: topic?, kind: message_type, destination: destination? })
}

fn amqp(raw: &RawRoute, s: &mut Section<'_>) -> Option<Destination> {
    if raw.exchange.is_none() {
        s.missing("exchange", "\"events\"");
    }
    let exchange = short_string(s, "exchange", &raw.exchange);
    let routing_key = match &raw.routing_key {
        None => Template::parse(DEFAULT_ROUTING_KEY).ok(),
        written => short_string(s, "routing_key", written),
    };
    // A part that can never work would bury every row of the route.
    if exchange.iter().flat_map(Template::fixed_texts).any(|text| text.contains(['\r', '\n'])) {
        s.refuse("exchange", "has a line break", "RabbitMQ has no exchange of such a name");
    }
    let mandatory = s.flag("mandatory", &raw.mandatory, DEFAULT_MANDATORY);
    let headers = headers(raw, s);
    let mut table = s.table("headers");
    for (name, value) in &headers {
        if ARRAY_HEADERS.contains(&name.as_str()) {
            table.refuse_key(
                name,
                "RabbitMQ takes an array of routing keys there, and nothing else",
                "give the header another name; more destinations are a matter of bindings",
            );
        }
        if name == CONTENT_TYPE && value.fixed_bytes() > SHORT_STRING_BYTES_MAX {
            table.refuse(name, "longer than 255 bytes", "AMQP allows no longer content type");
        }
    }
    Some(Destination::Amqp { exchange: exchange?, routing_key: routing_key?, headers, mandatory })
}

fn kafka(raw: &RawRoute, s: &mut Section<'_>) -> Option<Destination> {
    if raw.kafka_topic.is_none() {
        s.missing("kafka_topic", "\"{{ topic }}\"");
    }
    let topic = parsed(s, "kafka_topic", &raw.kafka_topic, Template::parse);
    let legal = |topic: &Template| match topic.constant() {
        Some(name) => is_kafka_topic(name),
        None => topic.fixed_texts().all(is_of_a_kafka_topic) && topic.fixed_bytes() <= 249,
    };
    if topic.as_ref().is_some_and(|topic| !legal(topic)) {
        s.refuse(
            "kafka_topic",
            "not the name of a Kafka topic",
            "a name is 1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`, and neither `.` nor `..`",
        );
    }
    let headers = headers(raw, s);
    Some(Destination::Kafka { topic: topic?, headers })
}

fn short_string(s: &mut Section<'_>, key: &str, value: &Setting) -> Option<Template> {
    let template = parsed(s, key, value, Template::parse);
    if template.as_ref().is_some_and(|t| t.fixed_bytes() > SHORT_STRING_BYTES_MAX) {
        s.refuse(key, "longer than 255 bytes", "AMQP allows no longer name");
    }
    template
}

fn headers(raw: &RawRoute, s: &mut Section<'_>) -> Vec<(String, Template)> {
    let Some(headers) = &raw.headers else { return Vec::new() };
    let mut s = s.table("headers");
    headers
        .0
        .iter()
        .filter_map(|(name, value)| {
            if let Err(error) = check_name(name) {
                s.refuse_key(name, error.to_string(), "give the header another name");
            }
            let value: Option<Scalar> = Some(value.clone());
            Some((name.clone(), parsed(&mut s, name, &value, Template::parse)?))
        })
        .collect()
}

/// Keys that belong to the other kind of target.
fn refuse_other_kind(raw: &RawRoute, kind: Kind, s: &mut Section<'_>) {
    let amqp = [
        ("exchange", &raw.exchange),
        ("routing_key", &raw.routing_key),
        ("mandatory", &raw.mandatory),
    ];
    let kafka = [("kafka_topic", &raw.kafka_topic)];
    let (keys, hint): (&[_], _) = match kind {
        Kind::Amqp => (&kafka, "a route to RabbitMQ has exchange and routing_key"),
        Kind::Kafka => (&amqp, "a route to Kafka has kafka_topic"),
    };
    for (key, _) in keys.iter().filter(|(_, value)| value.is_some()) {
        s.refuse_key(key, format!("belongs to a target of kind = \"{}\"", kind.other()), hint);
    }
}

/// A text in a little language whose errors end in a `hint:` of their own.
fn parsed<T, E: Display>(
    s: &mut Section<'_>,
    key: &str,
    value: &Setting,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Option<T> {
    let text = s.text(key, value)?;
    match parse(&text) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            let message = error.to_string();
            let (reason, hint) = message.split_once("\nhint: ").unwrap_or((&message, "correct it"));
            s.refuse(key, reason, hint);
            None
        }
    }
}

fn is_kafka_topic(name: &str) -> bool {
    (1..=249).contains(&name.len()) && name != "." && name != ".." && is_of_a_kafka_topic(name)
}

fn is_of_a_kafka_topic(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}
