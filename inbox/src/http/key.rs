//! The header `Idempotency-Key`: an RFC 8941 string, one of it.

use http::HeaderMap;
use sfv::{BareItem, Item, Parser};
use uuid::Uuid;

use crate::idempotency::KEY_BYTES_MAX;

/// The name of the header.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// How the header may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Syntax {
    /// As the draft has it: a string in double quotes.
    #[default]
    Strict,
    /// Also without the quotes, as many clients send it.
    Lenient,
}

/// What a key may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyFormat {
    /// Anything of 1 to 255 printable ASCII characters.
    #[default]
    Any,
    /// A UUID in any notation; two notations of one are one key.
    Uuid,
}

/// Why the header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyFault {
    Repeated,
    Malformed,
    Empty,
    TooLong,
    NotUuid,
}

impl KeyFault {
    /// What a client's author reads. The key itself is not repeated: it may be anything.
    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Repeated => "The header Idempotency-Key may stand only once.",
            Self::Malformed => {
                "The header Idempotency-Key must be a string in double quotes (RFC 8941, section 3.3.3)."
            }
            Self::Empty => "The idempotency key must not be empty.",
            Self::TooLong => "The idempotency key must not be longer than 255 characters.",
            Self::NotUuid => "The idempotency key must be a UUID.",
        }
    }
}

/// The key of a request; `None` if the header is missing.
pub(super) fn parse(
    headers: &HeaderMap,
    syntax: Syntax,
    format: KeyFormat,
) -> Result<Option<String>, KeyFault> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(KeyFault::Repeated);
    }
    let key = match (quoted(value.as_bytes()), syntax) {
        (Some(key), _) => key,
        (None, Syntax::Lenient) => bare(value.as_bytes()).ok_or(KeyFault::Malformed)?,
        (None, Syntax::Strict) => return Err(KeyFault::Malformed),
    };
    if key.is_empty() {
        return Err(KeyFault::Empty);
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(KeyFault::TooLong);
    }
    match format {
        KeyFormat::Any => Ok(Some(key)),
        KeyFormat::Uuid => match Uuid::parse_str(&key) {
            Ok(uuid) => Ok(Some(uuid.to_string())),
            Err(_) => Err(KeyFault::NotUuid),
        },
    }
}

/// The value of a structured string. Parameters have no meaning here and are left alone, as RFC 8941
/// wants of those that nobody knows.
fn quoted(value: &[u8]) -> Option<String> {
    match Parser::new(value).parse::<Item>().ok()?.bare_item {
        BareItem::String(key) => Some(key.as_str().to_owned()),
        _ => None,
    }
}

/// A value without quotes: nothing that could be part of a structured string, or of a list.
fn bare(value: &[u8]) -> Option<String> {
    let allowed =
        |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\');
    value.iter().all(allowed).then(|| String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parsed(
        values: &[&str],
        syntax: Syntax,
        format: KeyFormat,
    ) -> Result<Option<String>, KeyFault> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_str(value).unwrap());
        }
        parse(&headers, syntax, format)
    }

    fn strict(value: &str) -> Result<Option<String>, KeyFault> {
        parsed(&[value], Syntax::Strict, KeyFormat::Any)
    }

    fn lenient(value: &str) -> Result<Option<String>, KeyFault> {
        parsed(&[value], Syntax::Lenient, KeyFormat::Any)
    }

    #[test]
    fn a_key_is_a_string_in_quotes() {
        assert_eq!(strict("\"8e03978e-40d5\""), Ok(Some("8e03978e-40d5".into())));
        assert_eq!(strict(r#""a \"b\" \\c""#), Ok(Some(r#"a "b" \c"#.into())));
        assert_eq!(strict("\"k\";v=1"), Ok(Some("k".into())));
        assert_eq!(parsed(&[], Syntax::Strict, KeyFormat::Any), Ok(None));
    }

    #[test]
    fn anything_else_is_malformed() {
        for value in [
            "abc",
            "8e03978e-40d5",
            "\"a",
            "a\"",
            "\"a\", \"b\"",
            ":YQ==:",
            "?1",
            "7",
            "('a')",
            "\"ä\"",
            "",
        ] {
            assert_eq!(strict(value), Err(KeyFault::Malformed), "{value}");
        }
    }

    #[test]
    fn quotes_may_be_missing_if_that_was_asked_for() {
        assert_eq!(lenient("8e03978e-40d5"), Ok(Some("8e03978e-40d5".into())));
        assert_eq!(lenient("\"abc\""), Ok(Some("abc".into())));
        for value in ["\"a", "a, b", "a;b", "a b", "a\\b", "ä"] {
            assert_eq!(lenient(value), Err(KeyFault::Malformed), "{value}");
        }
        assert_eq!(lenient(""), Err(KeyFault::Empty));
    }

    #[test]
    fn one_key_of_a_length_that_can_be_kept() {
        assert_eq!(strict("\"\""), Err(KeyFault::Empty));
        assert!(strict(&format!("\"{}\"", "k".repeat(255))).is_ok());
        assert_eq!(strict(&format!("\"{}\"", "k".repeat(256))), Err(KeyFault::TooLong));
        let twice = parsed(&["\"a\"", "\"a\""], Syntax::Strict, KeyFormat::Any);
        assert_eq!(twice, Err(KeyFault::Repeated));
    }

    #[test]
    fn two_notations_of_a_uuid_are_one_key() {
        let uuid = |value| parsed(&[value], Syntax::Strict, KeyFormat::Uuid);
        let canonical = Ok(Some("8e03978e-40d5-43e8-bc93-6894a57f9324".into()));
        assert_eq!(uuid("\"8E03978E-40D5-43E8-BC93-6894A57F9324\""), canonical);
        assert_eq!(uuid("\"8e03978e40d543e8bc936894a57f9324\""), canonical);
        assert_eq!(uuid("\"order-7\""), Err(KeyFault::NotUuid));
    }
}
