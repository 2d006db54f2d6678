//! A row as RabbitMQ takes it: exchange, routing key, properties.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use uuid::Uuid;

use crate::header::ARRAY_HEADERS;
use crate::message::Message;
use crate::route::{Destination, RouteConfig};
use crate::target::wire::{self, SHORT_STRING_BYTES_MAX, bury, render};
use crate::target::{Refusal, Submission};

/// Survives a restart of the broker.
const DELIVERY_MODE_PERSISTENT: u8 = 2;

/// What a frame and the fixed part of a content header take at most, bytes: frame header and end
/// (8), class, weight, body size and flags (14), delivery mode (1), timestamp (8), length of the
/// table (4).
const HEADER_BYTES_FIXED: usize = 35;

/// Everything of a `basic.publish` but the body.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    /// RabbitMQ returns it if no queue is bound there.
    pub(super) mandatory: bool,
}

impl Publication {
    /// Encodes a submission.
    ///
    /// # Errors
    /// What no broker would take: names beyond 255 bytes, a text where RabbitMQ wants an array, headers
    /// that do not fit in one frame of `frame_bytes_max` (the content header cannot be split), and what
    /// `wire::headers` refuses.
    pub(super) fn of(
        submission: &Submission,
        route: &RouteConfig,
        frame_bytes_max: usize,
    ) -> Result<Self, Refusal> {
        let Destination::Amqp { exchange, routing_key, headers, mandatory } = &route.destination
        else {
            return Err(bury("the route leads to another kind of broker".into()));
        };
        let message = &submission.message;
        let exchange = short("exchange", &render(exchange, message)?)?;
        if exchange.as_str().contains(['\r', '\n']) {
            // RabbitMQ takes line breaks out of a name that is declared: a look would find another
            // exchange, and the publish would end the channel.
            return Err(bury(
                "the exchange's name has a line break: there can be no such one".into(),
            ));
        }
        let routing_key = short("routing key", &render(routing_key, message)?)?;
        let mut table = Table::default();
        if let Some(key) = message.key_bytes() {
            table.put(wire::KEY, Some(key));
        }
        if message.payload().is_none() {
            table.put(wire::NULL_PAYLOAD, Some(b"true"));
        }
        wire::headers(submission, headers, |name, value| table.put(name, value))?;
        let properties = table.into_properties(message, frame_bytes_max)?;
        Ok(Self { exchange, routing_key, properties, mandatory: *mandatory })
    }

    /// Whether an exchange that delays would return it although it delivers it later.
    pub(super) fn is_delayed(&self) -> bool {
        self.mandatory && has_delay(&self.properties)
    }
}

/// The headers so far.
#[derive(Default)]
struct Table {
    fields: FieldTable,
    content_type: Option<Result<ShortString, Refusal>>,
    illegal_name: Option<Refusal>,
    bytes: usize,
}

impl Table {
    fn put(&mut self, name: &str, value: Option<&[u8]>) {
        // name: length and text; value: type, length and bytes
        self.bytes += 1 + name.len() + 1 + value.map_or(0, |value| 4 + value.len());
        if name == wire::CONTENT_TYPE
            && let Some(text) = value.and_then(|value| std::str::from_utf8(value).ok())
        {
            self.content_type = Some(short("content type", text));
            return;
        }
        if ARRAY_HEADERS.contains(&name) {
            self.illegal_name = Some(bury(format!(
                "header {name}: RabbitMQ takes an array there, and nothing else"
            )));
            return;
        }
        match short("header name", name) {
            Ok(name) => {
                let value = value.map_or(AMQPValue::Void, |v| AMQPValue::LongString(v.into()));
                self.fields.insert(name, value);
            }
            Err(refusal) => self.illegal_name = Some(refusal),
        }
    }

    fn into_properties(
        self,
        message: &Message,
        frame_bytes_max: usize,
    ) -> Result<BasicProperties, Refusal> {
        if let Some(refusal) = self.illegal_name {
            return Err(refusal);
        }
        let id = message.message_id();
        let id = short("message id", id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))?;
        let kind = message.kind().map(|kind| short("type", kind)).transpose()?;
        let bytes = HEADER_BYTES_FIXED
            + self.bytes
            + 1
            + id.as_str().len()
            + kind.as_ref().map_or(0, |kind| 1 + kind.as_str().len());
        if bytes > frame_bytes_max {
            return Err(bury(format!(
                "properties and headers of {bytes} bytes: more than one frame of {frame_bytes_max} bytes holds"
            )));
        }
        let mut properties = BasicProperties::default()
            .with_delivery_mode(DELIVERY_MODE_PERSISTENT)
            .with_message_id(id)
            .with_timestamp(wire::created_at_seconds(message))
            .with_headers(self.fields);
        if let Some(kind) = kind {
            properties = properties.with_type(kind);
        }
        if let Some(content_type) = self.content_type {
            properties = properties.with_content_type(content_type?);
        }
        Ok(properties)
    }
}

/// A short string by fallible means: lapin's own conversion panics beyond 255 bytes.
fn short(what: &str, text: &str) -> Result<ShortString, Refusal> {
    ShortString::try_new(text).map_err(|_| {
        bury(format!("{what} of {} bytes: more than {SHORT_STRING_BYTES_MAX}", text.len()))
    })
}

/// Whether the message asks for a delay (an application header that only x-delayed-message reads).
pub(super) fn has_delay(properties: &BasicProperties) -> bool {
    let headers = properties.headers().as_ref();
    headers.is_some_and(|headers| headers.inner().contains_key("x-delay"))
}

/// The row that a returned message came from.
pub(super) fn row_of(properties: &BasicProperties) -> Option<i64> {
    match properties.headers().as_ref()?.inner().get(wire::ROW_ID)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Parts;
    use crate::target::Reaction;

    const FRAME: usize = 131_072;

    fn route(exchange: &str) -> RouteConfig {
        RouteConfig {
            topic: "*".parse().unwrap(),
            kind: None,
            destination: Destination::Amqp {
                exchange: exchange.parse().unwrap(),
                routing_key: "{{ topic }}".parse().unwrap(),
                headers: vec![],
                mandatory: true,
            },
        }
    }

    fn publication(
        topic: &str,
        kind: Option<&str>,
        headers: Option<&str>,
        frame_bytes_max: usize,
    ) -> Result<Publication, Refusal> {
        publication_to("orders", topic, kind, headers, frame_bytes_max)
    }

    fn publication_to(
        exchange: &str,
        topic: &str,
        kind: Option<&str>,
        headers: Option<&str>,
        frame_bytes_max: usize,
    ) -> Result<Publication, Refusal> {
        let message = Message::new(Parts {
            id: 42,
            message_id: Uuid::from_u128(1),
            created_at_us: 1_700_000_000_000_000,
            topic,
            key: Some(""),
            kind,
            headers,
            payload: None,
            oversize_bytes: None,
        });
        let submission =
            Submission { ticket: 1, message, route: 0, resent: None, replay: None, probe: false };
        Publication::of(&submission, &route(exchange), frame_bytes_max)
    }

    #[test]
    fn an_exchange_with_a_line_break_in_its_name_is_refused_before_it_is_looked_for() {
        for topic in ["a\nb", "a\r", "\r\n", "\n"] {
            let refusal = publication_to("{{ topic }}", topic, None, None, FRAME).unwrap_err();
            assert_eq!(refusal.reaction, Reaction::Bury, "{topic:?}");
            assert!(refusal.reason.contains("line break"), "{}", refusal.reason);
            // A routing key may have one.
            assert!(publication(topic, None, None, FRAME).is_ok(), "{topic:?}");
        }
    }

    #[test]
    fn a_row_becomes_a_publication() {
        let publication = publication("order.created", Some("v1"), None, FRAME).unwrap();
        assert_eq!(publication.exchange.as_str(), "orders");
        assert_eq!(publication.routing_key.as_str(), "order.created");
        let properties = &publication.properties;
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "v1");
        assert_eq!(*properties.timestamp(), Some(1_700_000_000));
        let headers = properties.headers().as_ref().unwrap().inner();
        assert_eq!(headers.get("x-outbox-key"), Some(&AMQPValue::LongString("".into())));
        assert_eq!(headers.get("x-outbox-null"), Some(&AMQPValue::LongString("true".into())));
        assert_eq!(row_of(properties), Some(42));
    }

    #[test]
    fn a_content_type_is_a_property_if_it_is_a_text() {
        let with = |json: &str| publication("t", None, Some(json), FRAME).unwrap().properties;
        let properties = with(r#"{"content-type": "application/json"}"#);
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
        let headers = |p: &BasicProperties| p.headers().clone().unwrap();
        assert!(!headers(&properties).contains_key("content-type"));
        let properties = with(r#"{"content-type": null}"#);
        assert_eq!(*properties.content_type(), None);
        assert!(headers(&properties).contains_key("content-type"));
    }

    #[test]
    fn what_no_broker_takes_is_buried() {
        let long = "x".repeat(256);
        let huge = format!(r#"{{"a": "{}"}}"#, "x".repeat(FRAME));
        let name = format!(r#"{{"{long}": 1}}"#);
        let content_type = format!(r#"{{"content-type": "{long}"}}"#);
        for (topic, kind, headers, reason) in [
            (&*long, None, None, "routing key of 256 bytes: more than 255"),
            ("t", Some(&*long), None, "type of 256 bytes: more than 255"),
            ("t", None, Some(&*name), "header name of 256 bytes: more than 255"),
            ("t", None, Some(&*content_type), "content type of 256 bytes: more than 255"),
            ("t", None, Some(&*huge), "properties and headers of"),
            ("t", None, Some(r#"{"CC": "a"}"#), "header CC: RabbitMQ takes an array"),
            ("t", None, Some(r#"{"BCC": ["a"]}"#), "header BCC: RabbitMQ takes an array"),
            ("t", None, Some(r#"{"CC": null}"#), "header CC: RabbitMQ takes an array"),
        ] {
            let refusal = publication(topic, kind, headers, FRAME).unwrap_err();
            assert_eq!(refusal.reaction, Reaction::Bury);
            assert!(refusal.reason.starts_with(reason), "{}", refusal.reason);
        }
    }

    #[test]
    fn a_name_that_only_looks_like_one_of_rabbitmq_is_nothing_special() {
        for headers in [r#"{"cc": "a"}"#, r#"{"Bcc": "a"}"#, r#"{"X-Death": "a"}"#] {
            assert!(publication("t", None, Some(headers), FRAME).is_ok(), "{headers}");
        }
    }

    /// The estimate must never be below what is written, and not refuse much too early.
    #[test]
    fn the_size_of_a_content_header_is_known() {
        let json = r#"{"content-type": "text/plain", "a": null, "b": "c", "n": 1}"#;
        let refusal = publication("order.created", Some("v1"), Some(json), 1).unwrap_err();
        let bytes: usize = refusal.reason.split(' ').nth(4).unwrap().parse().unwrap();
        let publication = publication("order.created", Some("v1"), Some(json), FRAME).unwrap();
        let header = lapin_frame(publication.properties);
        assert!(bytes >= header, "{bytes} < {header}");
        assert!(bytes < header + 32, "{bytes} is far from {header}");
    }

    /// What the content header's frame takes, written out field by field from the specification.
    fn lapin_frame(properties: BasicProperties) -> usize {
        let short = |text: &Option<ShortString>| text.as_ref().map_or(0, |t| 1 + t.as_str().len());
        let table: usize = properties
            .headers()
            .iter()
            .flatten()
            .map(|(name, value)| {
                1 + name.as_str().len()
                    + 1
                    + match value {
                        AMQPValue::LongString(text) => 4 + text.len(),
                        _ => 0,
                    }
            })
            .sum();
        7 + 1 + 2 + 2 + 8 + 2 // frame; class, weight, body size, flags
            + short(properties.content_type())
            + short(properties.message_id())
            + short(properties.kind())
            + 4 + table
            + 1 + 8 // delivery mode, timestamp
    }
}
