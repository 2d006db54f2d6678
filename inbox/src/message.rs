//! A delivered message, read once: who it is, what is compared, why it may come again.

use std::borrow::Cow;
use std::fmt;

use crate::cause::{Cause, REPLAY_HEADER, RESENT_HEADER};
use crate::fingerprint::{FINGERPRINT_BYTES, fingerprint};
use crate::id::MessageId;

/// The relay's: the topic of the row, whatever queue or topic it came through.
const TOPIC_HEADER: &str = "x-outbox-topic";
/// The relay's: the ordering key, where the protocol has none.
const KEY_HEADER: &str = "x-outbox-key";
/// The relay's: the payload is NULL, not empty, where the protocol knows only empty.
const NULL_PAYLOAD_HEADER: &str = "x-outbox-null";
/// Of Kafka records that the relay and other outboxes write.
const ID_HEADER: &str = "id";
const TYPE_HEADER: &str = "type";
/// CloudEvents in Kafka, in AMQP 1.0, and as RabbitMQ's clients write them.
const CLOUD_EVENTS_PREFIXES: [&str; 4] = ["ce_", "cloudEvents:", "cloudEvents_", "ce-"];
/// W3C trace context.
const TRACEPARENT_HEADER: &str = "traceparent";
const CORRELATION_HEADERS: [&str; 2] = ["correlation_id", "correlation-id"];

/// A header: name, and bytes if it has a value.
pub type Header<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

/// What a client library has of a delivery; `Default` is nothing of it.
#[derive(Clone, Default)]
pub struct Parts<'a> {
    /// The protocol's own property, in AMQP `message_id`.
    pub message_id: Option<&'a str>,
    /// The protocol's own property, in AMQP `type`.
    pub kind: Option<&'a str>,
    /// The protocol's own property, in AMQP `correlation_id`.
    pub correlation_id: Option<&'a str>,
    /// The record's key.
    pub key: Option<&'a [u8]>,
    /// The body; `None` is not the same as empty.
    pub payload: Option<&'a [u8]>,
    /// In the order of the delivery.
    pub headers: Vec<Header<'a>>,
    /// The queue or topic that it came from.
    pub destination: &'a str,
    /// The broker says that it has delivered it before.
    pub redelivered: bool,
}

/// A delivered message.
#[derive(Clone)]
pub struct Message<'a> {
    id: Option<MessageId>,
    cause: Cause,
    kind: Option<Cow<'a, str>>,
    topic: Option<Cow<'a, [u8]>>,
    key: Option<Cow<'a, [u8]>>,
    payload: Option<&'a [u8]>,
    headers: Vec<Header<'a>>,
    destination: Cow<'a, str>,
    correlation_id: Option<Cow<'a, str>>,
    trace_id: Option<String>,
}

impl<'a> Message<'a> {
    /// Reads a delivery. The id is the first there is of: the property `message_id`, CloudEvents' `id`
    /// (with its `source`), the header `id`. A message without any cannot be told from another one.
    #[must_use]
    pub fn read(parts: Parts<'a>) -> Self {
        let Parts { headers, payload, .. } = parts;
        let text = |name: &str| text(&headers, name);
        let bytes = |name: &str| find(&headers, name).and_then(|value| value.cloned());
        let cloud_event =
            |name| CLOUD_EVENTS_PREFIXES.iter().find_map(|prefix| text(&format!("{prefix}{name}")));
        let source = cloud_event("source");
        let id = parts
            .message_id
            .and_then(|id| MessageId::new(id, None))
            .or_else(|| MessageId::new(&cloud_event("id")?, source.as_deref()))
            .or_else(|| MessageId::new(&text(ID_HEADER)?, None));
        let cause = Cause::of(
            find(&headers, REPLAY_HEADER).is_some(),
            find(&headers, RESENT_HEADER).is_some(),
            parts.redelivered,
        );
        let kind = parts.kind.map(Cow::Borrowed);
        let kind = kind.or_else(|| text(TYPE_HEADER)).or_else(|| cloud_event("type"));
        let correlation = parts.correlation_id.map(Cow::Borrowed);
        let correlation_id =
            correlation.or_else(|| CORRELATION_HEADERS.iter().find_map(|name| text(name)));
        let is_null = payload.is_none_or(<[u8]>::is_empty)
            && text(NULL_PAYLOAD_HEADER).as_deref() == Some("true");
        Self {
            id,
            cause,
            kind,
            topic: bytes(TOPIC_HEADER),
            key: parts.key.map(Cow::Borrowed).or_else(|| bytes(KEY_HEADER)),
            payload: payload.filter(|_| !is_null),
            destination: Cow::Borrowed(parts.destination),
            correlation_id,
            trace_id: text(TRACEPARENT_HEADER).and_then(|parent| trace_id(&parent)),
            headers,
        }
    }

    /// Under which it is claimed; `None`: it is poison.
    #[must_use]
    pub fn id(&self) -> Option<&MessageId> {
        self.id.as_ref()
    }

    /// Why it may come again.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// The type of the event.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// The ordering key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The body; `None` for a NULL, which is not the same as empty.
    #[must_use]
    pub fn payload(&self) -> Option<&[u8]> {
        self.payload
    }

    /// The queue or topic that it came from.
    #[must_use]
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// What belongs together across services, as the producer says.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.correlation_id.as_deref()
    }

    /// Of the W3C trace that it was sent in.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.trace_id.as_deref()
    }

    /// The first header of that name, as text; `None` if it is absent, null or no text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let value = find(&self.headers, name)??;
        std::str::from_utf8(value).ok().map(Cow::Borrowed)
    }

    pub(crate) fn headers(&self) -> &[Header<'a>] {
        &self.headers
    }

    /// Of payload, key, topic and type. The topic is the one that the relay states: the queue or topic
    /// of the broker is another one for a message that was dead-lettered, shovelled or moved.
    pub(crate) fn fingerprint(&self) -> [u8; FINGERPRINT_BYTES] {
        let kind = self.kind.as_deref().map(str::as_bytes);
        fingerprint(self.topic.as_deref(), kind, self.key(), self.payload)
    }
}

/// Payload and headers are nobody's but the handler's.
impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("cause", &self.cause)
            .field("kind", &self.kind)
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}

/// The value of a header that is there; `Some(None)` is a null.
fn find<'h, 'a>(headers: &'h [Header<'a>], name: &str) -> Option<Option<&'h Cow<'a, [u8]>>> {
    headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_ref())
}

fn text<'a>(headers: &[Header<'a>], name: &str) -> Option<Cow<'a, str>> {
    match find(headers, name)?? {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes.clone()).ok().map(Cow::Owned),
    }
}

/// `00-<trace id>-<parent id>-<flags>`
fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<'a>(headers: &[(&'a str, &'a str)]) -> Parts<'a> {
        let owned = |&(name, value): &(&'a str, &'a str)| {
            (Cow::Borrowed(name), Some(Cow::Borrowed(value.as_bytes())))
        };
        Parts { headers: headers.iter().map(owned).collect(), ..Parts::default() }
    }

    fn id(parts: Parts<'_>) -> Option<String> {
        Message::read(parts).id().map(ToString::to_string)
    }

    #[test]
    fn the_id_is_the_first_there_is() {
        let all = [("id", "kafka"), ("ce_id", "event"), ("ce_source", "/orders")];
        assert_eq!(id(Parts { message_id: Some("amqp"), ..with(&all) }).unwrap(), "amqp");
        assert_eq!(id(Parts { message_id: Some(""), ..with(&all) }).unwrap(), "/orders|event");
        assert_eq!(id(with(&[("cloudEvents:id", "e")])).unwrap(), "e");
        assert_eq!(id(with(&all[..1])).unwrap(), "kafka");
        assert_eq!(id(with(&[("x", "y"), ("id", "")])), None);
    }

    #[test]
    fn the_most_specific_cause_counts() {
        let cause = |headers: &[_], redelivered| {
            Message::read(Parts { redelivered, ..with(headers) }).cause()
        };
        let (resent, replay) = (("x-outbox-resent", "crash"), ("x-outbox-replay", "1"));
        assert_eq!(cause(&[], false), Cause::Unknown);
        assert_eq!(cause(&[], true), Cause::Redelivered);
        assert_eq!(cause(&[resent], true), Cause::RelayRetry);
        assert_eq!(cause(&[resent, replay], true), Cause::Replay);
    }

    #[test]
    fn the_relays_words_about_a_repetition_make_no_other_message() {
        let base = [("x-outbox-topic", "orders"), ("x-outbox-key", "k")];
        let again = [base[0], base[1], ("x-outbox-resent", "crash"), ("x-outbox-id", "1")];
        let print = |parts| Message::read(parts).fingerprint();
        assert_eq!(print(with(&base)), print(with(&again)));
        let moved = Parts { destination: "orders.dead", redelivered: true, ..with(&base) };
        assert_eq!(print(with(&base)), print(moved));
        for other in [("x-outbox-topic", "invoices"), ("x-outbox-key", "l"), ("type", "t")] {
            assert_ne!(print(with(&base)), print(with(&[other, base[0], base[1]])), "{other:?}");
        }
        assert_ne!(print(with(&base)), print(Parts { payload: Some(b""), ..with(&base) }));
    }

    #[test]
    fn a_null_payload_is_the_same_on_both_brokers() {
        let kafka = Message::read(with(&[("x-outbox-topic", "t")]));
        let headers = [("x-outbox-topic", "t"), ("x-outbox-null", "true")];
        let amqp = Message::read(Parts { payload: Some(b""), ..with(&headers) });
        assert_eq!(amqp.payload(), None);
        assert_eq!(kafka.fingerprint(), amqp.fingerprint());
    }

    #[test]
    fn a_trace_is_read_and_nothing_else_taken_for_one() {
        let trace =
            |value| Message::read(with(&[("traceparent", value)])).trace_id().map(str::to_owned);
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = format!("00-{id}-00f067aa0ba902b7-01");
        assert_eq!(trace(&parent).as_deref(), Some(id));
        assert_eq!(trace("00-nonsense-1-1"), None);
    }
}
