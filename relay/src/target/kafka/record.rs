//! A row as Kafka takes it: topic, key, value, timestamp, headers.

use std::borrow::Cow;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use uuid::Uuid;

use crate::config::KafkaTimestamp;
use crate::message::Message;
use crate::route::{Destination, RouteConfig};
use crate::target::wire::{self, RouteHeaders, bury, render};
use crate::target::{Refusal, Submission};

/// The longest name of a topic, bytes.
const TOPIC_BYTES_MAX: usize = 249;

/// id, type, row id, topic, created_at, and three of the application.
const HEADERS_TYPICAL: usize = 8;

/// Topic and headers that a route gives a message.
///
/// # Errors
/// A template that cannot be rendered, a topic that can never exist.
pub(super) fn destination<'a>(
    message: &'a Message,
    route: &'a RouteConfig,
) -> Result<(Cow<'a, str>, &'a RouteHeaders), Refusal> {
    let Destination::Kafka { topic, headers } = &route.destination else {
        return Err(bury("the route leads to another kind of broker".into()));
    };
    let topic = render(topic, message)?;
    let legal = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    if topic.is_empty() || topic == "." || topic == ".." || !topic.bytes().all(legal) {
        return Err(bury(format!("topic `{topic}`: not a name that Kafka takes")));
    }
    if topic.len() > TOPIC_BYTES_MAX {
        let bytes = topic.len();
        return Err(bury(format!("topic of {bytes} bytes: more than {TOPIC_BYTES_MAX}")));
    }
    Ok((topic, headers))
}

/// The record, with the ticket as its opaque. Key and value are borrowed from the row.
///
/// # Errors
/// What `wire::headers` refuses.
pub(super) fn record<'a>(
    submission: &'a Submission,
    topic: &'a str,
    route: &RouteHeaders,
    timestamp: KafkaTimestamp,
) -> Result<BaseRecord<'a, [u8], [u8], usize>, Refusal> {
    let message = &submission.message;
    let mut headers = Headers(Some(OwnedHeaders::new_with_capacity(HEADERS_TYPICAL)));
    let id = message.message_id().hyphenated();
    headers.put(wire::MESSAGE_ID, Some(id.encode_lower(&mut Uuid::encode_buffer()).as_bytes()));
    if let Some(kind) = message.kind_bytes() {
        headers.put(wire::TYPE, Some(kind));
    }
    wire::headers(submission, route, |name, value| headers.put(name, value))?;
    Ok(BaseRecord {
        topic,
        partition: None,
        // Empty is not null, for key and payload alike: librdkafka tells them by the pointer.
        payload: message.payload(),
        key: message.key_bytes(),
        timestamp: match timestamp {
            KafkaTimestamp::Created => Some(wire::created_at_millis(message)),
            // librdkafka takes its own clock.
            KafkaTimestamp::Sent => None,
        },
        headers: headers.0,
        delivery_opaque: usize::try_from(submission.ticket).expect("a ticket fits in a pointer"),
    })
}

/// `OwnedHeaders` hands itself from insert to insert.
struct Headers(Option<OwnedHeaders>);

impl Headers {
    fn put(&mut self, name: &str, value: Option<&[u8]>) {
        self.0 = self.0.take().map(|headers| headers.insert(Header { key: name, value }));
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers as _;

    use super::*;
    use crate::message::Parts;
    use crate::target::Reaction;

    fn submission(topic: &str, headers: Option<&str>) -> Submission {
        let message = Message::new(Parts {
            id: 42,
            message_id: Uuid::from_u128(1),
            created_at_us: 1_700_000_000_123_456,
            topic,
            key: Some(""),
            kind: Some("v1"),
            headers,
            payload: Some(b""),
            oversize_bytes: None,
        });
        Submission { ticket: 9, message, route: 0, resent: None, replay: None, probe: false }
    }

    fn route() -> RouteConfig {
        RouteConfig {
            topic: "*".parse().unwrap(),
            kind: None,
            destination: Destination::Kafka {
                topic: "{{ topic }}".parse().unwrap(),
                headers: vec![],
            },
        }
    }

    #[test]
    fn a_row_becomes_a_record() {
        let submission = submission("orders", Some(r#"{"a": "b", "z": null}"#));
        let sent = record(&submission, "orders", &[], KafkaTimestamp::Sent).unwrap();
        assert_eq!(sent.timestamp, None);
        let record = record(&submission, "orders", &[], KafkaTimestamp::Created).unwrap();
        assert_eq!(record.topic, "orders");
        assert_eq!(record.key, Some(&b""[..]));
        assert_eq!(record.payload, Some(&b""[..]));
        assert_eq!(record.timestamp, Some(1_700_000_000_123));
        assert_eq!(record.delivery_opaque, 9);
        let headers = record.headers.unwrap();
        let all: Vec<_> = headers.iter().map(|h| (h.key, h.value)).collect();
        assert_eq!(
            all,
            [
                ("id", Some(&b"00000000-0000-0000-0000-000000000001"[..])),
                ("type", Some(b"v1")),
                ("x-outbox-id", Some(b"42")),
                ("x-outbox-topic", Some(b"orders")),
                ("x-outbox-created-at", Some(b"2023-11-14T22:13:20.123456Z")),
                ("a", Some(b"b")),
                ("z", None),
            ]
        );
    }

    #[test]
    fn a_topic_that_can_never_exist_buries_the_message() {
        let long = "x".repeat(250);
        for (topic, legal) in [
            ("orders.v1_a-B", true),
            (&long[1..], true),
            (&long, false),
            ("", false),
            (".", false),
            ("..", false),
            ("a b", false),
            ("caf\u{e9}", false),
            ("a\0b", false),
        ] {
            let submission = submission(topic, None);
            let route = route();
            let result = destination(&submission.message, &route);
            assert_eq!(result.is_ok(), legal, "{topic:?}");
            if let Err(refusal) = result {
                assert_eq!(refusal.reaction, Reaction::Bury);
            }
        }
    }
}
