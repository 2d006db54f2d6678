//! What a message says, in one form for both sides: as the writer committed it and as a consumer
//! of either broker received it. What two sides agree on is compared by digest.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Everything of a row that must arrive unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) topic: String,
    /// `None` = NULL, which is not the empty key.
    pub(crate) key: Option<String>,
    pub(crate) kind: Option<String>,
    /// `None` = NULL, which is not the empty payload.
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Headers,
}

/// Application headers by name, as text; `None` = null.
pub(crate) type Headers = BTreeMap<String, Option<String>>;

/// SHA-256 over every field of a [`Content`].
pub(crate) type Digest = [u8; 32];

impl Content {
    pub(crate) fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        // Presence and length go in front of every field: no two contents run into one another.
        let mut field = |bytes: Option<&[u8]>| {
            hash.update([u8::from(bytes.is_some())]);
            let bytes = bytes.unwrap_or_default();
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(Some(self.topic.as_bytes()));
        field(self.key.as_deref().map(str::as_bytes));
        field(self.kind.as_deref().map(str::as_bytes));
        field(self.payload.as_deref());
        for (name, value) in &self.headers {
            field(Some(name.as_bytes()));
            field(value.as_deref().map(canonical).as_deref().map(str::as_bytes));
        }
        hash.finalize().into()
    }
}

/// The text of each header as the wire format has it: a string as it is, null as none, anything
/// else as its JSON text.
pub(crate) fn headers_of(json: &Value) -> Headers {
    let Value::Object(object) = json else { return Headers::new() };
    object
        .iter()
        .map(|(name, value)| {
            let text = match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            (name.clone(), text)
        })
        .collect()
}

/// PostgreSQL prints jsonb with blanks that `serde_json` does not: JSON texts are compared as JSON.
fn canonical(text: &str) -> String {
    if text.starts_with(['{', '['])
        && let Ok(value) = serde_json::from_str::<Value>(text)
    {
        return value.to_string();
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_differ() {
        let null = Content::default();
        for other in [
            Content { key: Some(String::new()), ..Content::default() },
            Content { kind: Some(String::new()), ..Content::default() },
            Content { payload: Some(vec![]), ..Content::default() },
            Content { headers: [("a".to_owned(), None)].into(), ..Content::default() },
        ] {
            assert_ne!(null.digest(), other.digest(), "{other:?}");
        }
    }

    #[test]
    fn a_json_header_is_compared_as_json() {
        let with = |text: &str| Content {
            headers: [("a".to_owned(), Some(text.to_owned()))].into(),
            ..Content::default()
        };
        assert_eq!(with(r#"{"b": [1, 2]}"#).digest(), with(r#"{"b":[1,2]}"#).digest());
        assert_ne!(with("1.0").digest(), with("1").digest());
    }
}
