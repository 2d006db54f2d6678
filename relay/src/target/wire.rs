//! The wire format: the names that receivers rely on, and the headers that both brokers share.
//! The README's table says the same; a test goes through every cell of it on both brokers.

use std::borrow::Cow;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Reaction, Refusal, Submission};
use crate::header::{self, Value};
use crate::message::Message;
use crate::route::Template;

/// The row's id.
pub const ROW_ID: &str = "x-outbox-id";
/// The row's topic, whatever the destination is called.
pub const TOPIC: &str = "x-outbox-topic";
/// The row's ordering key; absent = NULL. In Kafka it is the record's key.
pub const KEY: &str = "x-outbox-key";
/// `true`: the payload is NULL, not empty. In Kafka that is a tombstone.
pub const NULL_PAYLOAD: &str = "x-outbox-null";
/// When the row was written: RFC 3339 in UTC with microseconds.
pub const CREATED_AT: &str = "x-outbox-created-at";
/// Why the message is sent again, as far as the relay knows.
pub const RESENT: &str = "x-outbox-resent";
/// The replay it belongs to.
pub const REPLAY: &str = "x-outbox-replay";
/// The message id; in AMQP the property `message_id`.
pub const MESSAGE_ID: &str = "id";
/// The event type; in AMQP the property `type`.
pub const TYPE: &str = "type";
/// An application header that AMQP carries as a property.
pub const CONTENT_TYPE: &str = "content-type";

/// The longest short string of AMQP, bytes.
pub const SHORT_STRING_BYTES_MAX: usize = 255;

/// A route's headers, compiled.
pub type RouteHeaders = [(String, Template)];

/// Hands every header that both brokers carry to `put`, name and bytes (`None` = null): the relay's
/// own, those of the row, those of the route. A header of the route replaces one of the row.
///
/// # Errors
/// The row's headers are no object, or the payload was too large to be read: refusals that bury the
/// message. A template needs what the row does not have: it waits for another route.
pub fn headers(
    submission: &Submission,
    route: &RouteHeaders,
    mut put: impl FnMut(&str, Option<&[u8]>),
) -> Result<(), Refusal> {
    let message = &submission.message;
    if let Some(bytes) = message.oversize_bytes() {
        // Never an empty message in its place, wherever the caller stands.
        return Err(bury(format!("payload of {bytes} bytes: larger than what is read")));
    }
    put(ROW_ID, Some(Digits::of(message.id()).as_bytes()));
    put(TOPIC, Some(message.topic_bytes()));
    put(CREATED_AT, Some(&created_at(message)));
    if let Some(resent) = submission.resent {
        put(RESENT, Some(resent.as_str().as_bytes()));
    }
    if let Some(replay) = submission.replay {
        put(REPLAY, Some(replay.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes()));
    }
    header::each(message.headers(), |name, value| {
        if route.iter().any(|(replaced, _)| replaced == name) {
            return;
        }
        match value {
            Value::Text(text) => put(name, Some(text.as_bytes())),
            Value::Json(text) => put(name, Some(text.as_bytes())),
            Value::Null => put(name, None),
        }
    })
    .map_err(|error| bury(format!("headers: {error}")))?;
    for (name, template) in route {
        put(name, Some(render(template, message)?.as_bytes()));
    }
    Ok(())
}

/// Renders a template of a route.
pub(super) fn render<'a>(
    template: &'a Template,
    message: &'a Message,
) -> Result<Cow<'a, str>, Refusal> {
    let refusal = |reason| Refusal { reaction: Reaction::Route, reason };
    template.render(message).map_err(|absent| refusal(absent.to_string()))
}

/// A refusal that no second attempt can change.
pub(super) fn bury(reason: String) -> Refusal {
    Refusal { reaction: Reaction::Bury, reason }
}

/// Seconds since the Unix epoch, not before it: neither broker takes a negative time.
pub(super) fn created_at_seconds(message: &Message) -> u64 {
    u64::try_from(message.created_at_us().div_euclid(1_000_000)).unwrap_or(0)
}

/// Milliseconds since the Unix epoch, at least 1 (librdkafka takes 0 for "now").
pub(super) fn created_at_millis(message: &Message) -> i64 {
    message.created_at_us().div_euclid(1_000).max(1)
}

/// RFC 3339 in UTC with microseconds. `infinity` and years beyond 9999, which only the table's
/// owner can write, become the last instant that the format knows.
fn created_at(message: &Message) -> [u8; 27] {
    let at = OffsetDateTime::from_unix_timestamp(message.created_at_us().div_euclid(1_000_000))
        .ok()
        .filter(|at| (0..=9999).contains(&at.year()));
    let Some(at) = at else { return *b"9999-12-31T23:59:59.999999Z" };
    // Formatted by hand: the general formatter costs more than the rest of the header's encoding.
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let mut set = |end: usize, digits: usize, mut value: u32| {
        for place in text[end - digits..end].iter_mut().rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    set(4, 4, at.year().unsigned_abs());
    set(7, 2, u8::from(at.month()).into());
    set(10, 2, at.day().into());
    set(13, 2, at.hour().into());
    set(16, 2, at.minute().into());
    set(19, 2, at.second().into());
    set(26, 6, message.created_at_us().rem_euclid(1_000_000) as u32);
    text
}

/// A number in decimal, without an allocation.
struct Digits {
    text: [u8; 20],
    start: usize,
}

impl Digits {
    fn of(number: i64) -> Self {
        let mut digits = Self { text: [b'-'; 20], start: 20 };
        let mut rest = number.unsigned_abs();
        loop {
            digits.start -= 1;
            digits.text[digits.start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            digits.start -= 1;
        }
        digits
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Parts, Resent};

    fn message(parts: Parts<'_>) -> Message {
        Message::new(parts)
    }

    fn parts<'a>() -> Parts<'a> {
        Parts {
            id: 42,
            message_id: Uuid::from_u128(7),
            created_at_us: 1_700_000_000_123_456,
            topic: "order.created",
            key: Some("k"),
            kind: None,
            headers: None,
            payload: Some(b"x"),
            oversize_bytes: None,
        }
    }

    fn submission(parts: Parts<'_>) -> Submission {
        let message = message(parts);
        Submission { ticket: 1, message, route: 0, resent: None, replay: None, probe: false }
    }

    fn collect(
        submission: &Submission,
        route: &RouteHeaders,
    ) -> Result<Vec<(String, Option<String>)>, Refusal> {
        let mut all = vec![];
        headers(submission, route, |name, value| {
            let text = value.map(|v| String::from_utf8(v.to_vec()).unwrap());
            all.push((name.to_owned(), text));
        })?;
        Ok(all)
    }

    fn pair(name: &str, value: &str) -> (String, Option<String>) {
        (name.to_owned(), Some(value.to_owned()))
    }

    #[test]
    fn the_relays_own_headers_come_first() {
        let mut submission = submission(parts());
        submission.resent = Some(Resent::Takeover);
        submission.replay = Some(Uuid::from_u128(9));
        assert_eq!(
            collect(&submission, &[]).unwrap(),
            [
                pair("x-outbox-id", "42"),
                pair("x-outbox-topic", "order.created"),
                pair("x-outbox-created-at", "2023-11-14T22:13:20.123456Z"),
                pair("x-outbox-resent", "takeover"),
                pair("x-outbox-replay", "00000000-0000-0000-0000-000000000009"),
            ]
        );
    }

    #[test]
    fn a_header_of_the_route_replaces_one_of_the_row() {
        let submission = submission(Parts {
            headers: Some(r#"{"a": "row", "n": 1.0, "z": null, "o": {"x": [1]}}"#),
            ..parts()
        });
        let route = [
            ("a".to_owned(), Template::parse("{{ topic }}").unwrap()),
            ("b".to_owned(), Template::parse("key {{ key }}").unwrap()),
        ];
        assert_eq!(
            collect(&submission, &route).unwrap()[3..],
            [
                pair("n", "1.0"),
                ("z".to_owned(), None),
                pair("o", r#"{"x": [1]}"#),
                pair("a", "order.created"),
                pair("b", "key k"),
            ]
        );
    }

    #[test]
    fn what_cannot_be_published_is_refused_with_its_reason() {
        let oversize = submission(Parts { payload: None, oversize_bytes: Some(99), ..parts() });
        let route = [("b".to_owned(), Template::parse("{{ type }}").unwrap())];
        let (bury, wait) = (Reaction::Bury, Reaction::Route);
        let no_object = submission(Parts { headers: Some("[1]"), ..parts() });
        for (submission, route, reaction, reason) in [
            (oversize, &[][..], bury, "payload of 99 bytes"),
            (no_object, &[], bury, "headers: invalid type"),
            (submission(parts()), &route, wait, "template: `type` is NULL"),
        ] {
            let refusal = collect(&submission, route).unwrap_err();
            assert_eq!(refusal.reaction, reaction);
            assert!(refusal.reason.starts_with(reason), "{}", refusal.reason);
        }
    }

    #[test]
    fn numbers_and_times_are_written_like_everywhere() {
        for number in [0, 1, -1, 10, 1234567890, i64::MAX, i64::MIN] {
            assert_eq!(Digits::of(number).as_bytes(), number.to_string().as_bytes());
        }
        for (us, text, seconds, millis) in [
            (0, "1970-01-01T00:00:00.000000Z", 0, 1),
            (-1, "1969-12-31T23:59:59.999999Z", 0, 1),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z", 951_782_400, 951_782_400_000),
            (
                253_402_300_799_999_999,
                "9999-12-31T23:59:59.999999Z",
                253_402_300_799,
                253_402_300_799_999,
            ),
            (i64::MAX, "9999-12-31T23:59:59.999999Z", 9_223_372_036_854, 9_223_372_036_854_775),
        ] {
            let message = message(Parts { created_at_us: us, ..parts() });
            assert_eq!(created_at(&message), text.as_bytes());
            assert_eq!(created_at_seconds(&message), seconds);
            assert_eq!(created_at_millis(&message), millis);
        }
    }
}
