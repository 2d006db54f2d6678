//! What makes two requests the same: a digest of what was asked for.
//!
//! The digest begins with what the rule is. When the rule changes, an old key meets a mismatch, and
//! not the answer to another question.

use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::json::{canonical, pointed};

/// Which part of a request counts. Method, path, query and content type always do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fingerprint {
    /// The whole body, byte by byte.
    #[default]
    Body,
    /// The values at these JSON pointers (RFC 6901); of a body that is not JSON, the whole.
    ///
    /// For bodies that change from one attempt to the next, such as by a time of sending; and for those
    /// with something secret in them that is short enough to be guessed from a digest.
    Pointers(Vec<String>),
}

impl Fingerprint {
    /// SHA-256 of the request.
    pub(super) fn digest(&self, parts: &Parts, body: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        part(&mut hash, self.rule().as_bytes());
        part(&mut hash, parts.method.as_str().as_bytes());
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        part(&mut hash, target.as_bytes());
        part(&mut hash, parts.headers.get(CONTENT_TYPE).map_or(b"", |value| value.as_bytes()));
        match (self, serde_json::from_slice::<&RawValue>(body)) {
            (Self::Pointers(pointers), Ok(json)) => {
                for pointer in pointers {
                    // No JSON text is empty, so a missing value is unlike any other.
                    let text = pointed(json, pointer).map(canonical).unwrap_or_default();
                    part(&mut hash, text.as_bytes());
                }
            }
            _ => part(&mut hash, body),
        }
        hash.finalize().into()
    }

    /// What the rule is; its number changes with what this file does.
    fn rule(&self) -> String {
        match self {
            Self::Body => "body/1".to_owned(),
            Self::Pointers(pointers) => format!("pointers/1 {}", Value::from(pointers.clone())),
        }
    }
}

/// With its length in front, so that no two lists of parts run together into the same bytes.
fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn digest(rule: &Fingerprint, method: &str, target: &str, kind: &str, body: &str) -> [u8; 32] {
        let request = Request::builder().method(method).uri(target).header(CONTENT_TYPE, kind);
        let (parts, ()) = request.body(()).unwrap().into_parts();
        rule.digest(&parts, body.as_bytes())
    }

    #[test]
    fn every_part_of_a_request_counts() {
        let rule = Fingerprint::Body;
        let first = digest(&rule, "POST", "/pay?a=1", "text/plain", "x");
        assert_eq!(first, digest(&rule, "POST", "/pay?a=1", "text/plain", "x"));
        for (method, target, kind, body) in [
            ("PATCH", "/pay?a=1", "text/plain", "x"),
            ("POST", "/pay?a=2", "text/plain", "x"),
            ("POST", "/pay", "text/plain", "x"),
            ("POST", "/pay?a=1", "text/html", "x"),
            ("POST", "/pay?a=1", "text/plain", "y"),
            // What leaves one part and enters the next.
            ("POST", "/pay?a=1t", "ext/plain", "x"),
        ] {
            assert_ne!(
                first,
                digest(&rule, method, target, kind, body),
                "{method} {target} {kind} {body}"
            );
        }
    }

    #[test]
    fn only_what_is_pointed_at_counts() {
        let rule = Fingerprint::Pointers(vec!["/amount".into(), "/to".into()]);
        let of = |body| digest(&rule, "POST", "/pay", "application/json", body);
        let first = of(r#"{"amount": 5, "to": {"name": "a", "iban": "b"}, "at": 1}"#);
        assert_eq!(first, of(r#"{"at": 2, "to": {"iban": "b", "name": "a"}, "amount": 5}"#));
        assert_ne!(first, of(r#"{"amount": 6, "to": {"name": "a", "iban": "b"}}"#));
        assert_ne!(of(r#"{"amount": null}"#), of("{}"));
        assert_ne!(of("no json"), of("no json either"));
    }

    #[test]
    fn another_rule_is_another_digest() {
        let of = |rule: Fingerprint| digest(&rule, "POST", "/pay", "application/json", "{}");
        let pointers =
            |names: &[&str]| Fingerprint::Pointers(names.iter().map(|&n| n.into()).collect());
        assert_ne!(of(Fingerprint::Body), of(pointers(&[])));
        assert_ne!(of(pointers(&["/a"])), of(pointers(&["/a", "/b"])));
    }
}
