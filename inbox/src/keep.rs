//! What is kept of a failed message, so that it can be looked at, and processed from the table.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

use crate::message::{Message, Parts};

/// In `inbox_failure.headers`. What is not text is left out there: it could not be shown either.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    destination: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    key: Option<String>,
    correlation_id: Option<String>,
    headers: Vec<(String, Option<String>)>,
}

impl Kept {
    pub(crate) fn of(message: &Message<'_>) -> Self {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(storable);
        let headers = message.headers().iter().filter_map(|(name, value)| match value {
            None => Some((storable(name), None)),
            Some(bytes) => text(bytes).map(|value| (storable(name), Some(value))),
        });
        Self {
            destination: storable(message.destination()),
            kind: message.kind().map(storable),
            key: message.key().and_then(text),
            correlation_id: message.correlation_id().map(storable),
            headers: headers.collect(),
        }
    }

    /// The message again, under its stored id.
    pub(crate) fn message<'a>(&'a self, id: &'a str, payload: Option<&'a [u8]>) -> Message<'a> {
        let header = |(name, value): &'a (String, Option<String>)| {
            (Cow::Borrowed(name.as_str()), value.as_ref().map(|v| Cow::Borrowed(v.as_bytes())))
        };
        Message::read(Parts {
            message_id: Some(id),
            kind: self.kind.as_deref(),
            correlation_id: self.correlation_id.as_deref(),
            key: self.key.as_ref().map(String::as_bytes),
            payload,
            headers: self.headers.iter().map(header).collect(),
            destination: &self.destination,
            redelivered: true,
        })
    }
}

/// PostgreSQL's text and jsonb have no NUL.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_the_same_message() {
        let parts = Parts {
            message_id: Some("m"),
            kind: Some("t"),
            payload: Some(b"p"),
            key: Some(b"k"),
            headers: vec![
                ("x-outbox-topic".into(), Some(Cow::Borrowed(b"orders"))),
                ("n".into(), None),
            ],
            destination: "q",
            ..Parts::default()
        };
        let message = Message::read(parts);
        let json = serde_json::to_string(&Kept::of(&message)).unwrap();
        let kept: Kept = serde_json::from_str(&json).unwrap();
        let again = kept.message("m", Some(b"p"));
        assert_eq!(again.id(), message.id());
        assert_eq!(again.fingerprint(), message.fingerprint());
    }
}
