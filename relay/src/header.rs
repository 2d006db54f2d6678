//! Application headers: reading the JSON object of a row, field by field, every value exactly as it is stored.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Headers that RabbitMQ reads itself, and wants as arrays: a text or a void there closes the channel
/// with everything in flight on it (measured; `x-death` is let pass). The names are compared as RabbitMQ
/// does, byte by byte.
pub(crate) const ARRAY_HEADERS: [&str; 2] = ["CC", "BCC"];

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// A JSON string, unescaped.
    Text(Cow<'a, str>),
    /// A number, boolean, object or array: its JSON text as stored. A number never becomes a float.
    Json(&'a str),
    /// JSON null.
    Null,
}

/// Why a header cannot have this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No protocol has a use for it.
    #[error("a header needs a name")]
    Empty,
    /// The wire format uses it itself.
    #[error("`{0}` is reserved: `id`, `type` and `x-outbox-*` belong to the relay")]
    Reserved(String),
    /// An AMQP header's name is a short string.
    #[error("a header's name has at most 255 bytes, this one has {0}")]
    TooLong(usize),
}

/// Checks the name of a header that a route adds (the table's CHECK does the same for a row's).
///
/// # Errors
/// An empty, reserved or too long name.
pub fn check_name(name: &str) -> Result<(), NameError> {
    // Receivers may fold the case of names, as the table's CHECK does.
    let folded = name.to_ascii_lowercase();
    if name.is_empty() {
        Err(NameError::Empty)
    } else if folded == "id" || folded == "type" || folded.starts_with("x-outbox-") {
        Err(NameError::Reserved(name.to_owned()))
    } else if name.len() > 255 {
        Err(NameError::TooLong(name.len()))
    } else {
        Ok(())
    }
}

/// The header of that name.
pub(crate) fn find<'a>(headers: Option<&'a str>, name: &str) -> Option<Value<'a>> {
    let mut found = None;
    // What is no object has no header: the wire format refuses it with its reason.
    let _ = each(headers, |key, value| {
        if key == name {
            found = Some(value);
        }
    });
    found
}

/// Calls `with` for each header, in the stored order. Nothing is allocated unless a string has escapes.
///
/// # Errors
/// The text is not a JSON object.
pub(crate) fn each<'a>(
    headers: Option<&'a str>,
    with: impl FnMut(&str, Value<'a>),
) -> Result<(), serde_json::Error> {
    match headers {
        None | Some("{}") => Ok(()),
        Some(text) => {
            let mut json = serde_json::Deserializer::from_str(text);
            json.deserialize_map(Object(with))?;
            json.end()
        }
    }
}

struct Object<F>(F);

impl<'a, F: FnMut(&str, Value<'a>)> Visitor<'a> for Object<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let raw = map.next_value::<&RawValue>()?.get();
            self.0(&name, value(raw).map_err(serde::de::Error::custom)?);
        }
        Ok(())
    }
}

/// A key, borrowed where it has no escapes (`Cow` itself always deserializes to an owned string).
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn value(raw: &str) -> Result<Value<'_>, serde_json::Error> {
    match raw.as_bytes() {
        b"null" => Ok(Value::Null),
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
            Ok(Value::Text(Cow::Borrowed(&raw[1..raw.len() - 1])))
        }
        [b'"', ..] => serde_json::from_str(raw).map(|text| Value::Text(Cow::Owned(text))),
        _ => Ok(Value::Json(raw)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, Value<'_>)>, serde_json::Error> {
        let mut all = vec![];
        each(Some(text), |name, value| all.push((name.to_owned(), value)))?;
        Ok(all)
    }

    #[test]
    fn values_keep_their_text() {
        let text = r#"{"a": "x", "é\"": "q\"\u00fc\n", "n": 12345678901234567890.10, "big": 1e400, "t": true, "o": {"b": [1, null]}, "z": null, "e": ""}"#;
        let expected = [
            ("a", Value::Text("x".into())),
            ("é\"", Value::Text("q\"ü\n".into())),
            ("n", Value::Json("12345678901234567890.10")),
            ("big", Value::Json("1e400")),
            ("t", Value::Json("true")),
            ("o", Value::Json(r#"{"b": [1, null]}"#)),
            ("z", Value::Null),
            ("e", Value::Text("".into())),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(find(Some(text), "t"), Some(Value::Json("true")));
        assert_eq!(find(Some(text), "absent"), None);
        assert_eq!(find(None, "a"), None);
    }

    #[test]
    fn deep_nesting_is_no_limit() {
        let deep = format!(r#"{{"a": {}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(read(&deep).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for text in ["[1]", "1", "", "{\"a\": 1", "{\"a\": 1} x", "null"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(check_name("tenant"), Ok(()));
        assert_eq!(check_name(""), Err(NameError::Empty));
        assert_eq!(check_name("id"), Err(NameError::Reserved("id".into())));
        for name in ["x-outbox-key", "X-Outbox-Id", "Id", "TYPE"] {
            assert_eq!(check_name(name), Err(NameError::Reserved(name.into())));
        }
        assert_eq!(check_name(&"a".repeat(256)), Err(NameError::TooLong(256)));
    }
}
