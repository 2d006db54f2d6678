//! What makes two requests the same: a digest of what was asked for.
//!
//! The digest begins with what the rule is. When the rule changes, an old key meets a mismatch, and
//! not the answer to another question.

mod coding;
mod fields;
mod media_type;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde_json::Value;
use sha2::{Digest, Sha256};

use self::media_type::media_type;
use super::json::{Json, TooDeep};
use super::problem::Problem;

/// Which part of a request counts. Method, path and query always do; and, unless a closure decides,
/// the content type, however its `charset` is spelled.
#[derive(Clone, Default)]
pub enum Fingerprint {
    /// The whole body, byte by byte.
    #[default]
    Body,
    /// The values at these JSON pointers (RFC 6901); of a body that is not JSON, the whole. Where
    /// members have one name, all of them count.
    ///
    /// For bodies that change from one attempt to the next, such as by a time of sending; and for those
    /// with something secret in them that is short enough to be guessed from a digest.
    ///
    /// A body that is nested deeper than [`JSON_DEPTH_MAX`](super::JSON_DEPTH_MAX) is refused with
    /// 400.
    Pointers(Vec<String>),
    /// The fields of a form, `multipart/form-data` or `application/x-www-form-urlencoded`: their
    /// names, file names, content types and bytes. The boundary does not count, nor the order of
    /// fields with different names. Of another body, or one that cannot be read so, the whole.
    ///
    /// For clients whose library makes a new boundary for each attempt.
    Fields,
    /// What a closure makes of the request: see [`Fingerprint::by`].
    By(Rule),
}

/// A rule of the application's own.
#[derive(Clone)]
pub struct Rule {
    name: String,
    make: Arc<Make>,
}

type Make = dyn Fn(&Parts, &[u8]) -> Vec<u8> + Send + Sync;

impl Fingerprint {
    /// What `make` returns for head and body is what counts, beside method, path and query. The
    /// name is part of the digest: change it (`payments/2`) whenever the closure changes.
    ///
    /// The closure must return other bytes for whatever is another request. It runs on the
    /// runtime's thread for each request that has a key, and must not block; it may not trust what
    /// it is given.
    ///
    /// ```
    /// use outbox_inbox::http::Fingerprint;
    ///
    /// // Everything but what a client's clock puts in front of the first line's end.
    /// let rule = Fingerprint::by("without-first-line/1", |_head, body| {
    ///     let end = body.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    ///     body[end..].to_vec()
    /// });
    /// ```
    pub fn by(
        name: impl Into<String>,
        make: impl Fn(&Parts, &[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::By(Rule { name: name.into(), make: Arc::new(make) })
    }

    /// SHA-256 of the request. With `decoded_bytes_max` content codings are undone before.
    pub(super) async fn digest(
        &self,
        parts: &Parts,
        body: &[u8],
        decoded_bytes_max: Option<usize>,
    ) -> Result<[u8; 32], Problem> {
        let body = match decoded_bytes_max {
            None => Cow::Borrowed(body),
            Some(bytes_max) => coding::undone(parts, body, bytes_max)
                .map_err(|coding::TooLarge| Problem::BodyTooLarge)?,
        };
        let mut hash = Sha256::new();
        part(&mut hash, self.rule().as_bytes());
        part(&mut hash, &[u8::from(decoded_bytes_max.is_some())]);
        part(&mut hash, parts.method.as_str().as_bytes());
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        part(&mut hash, target.as_bytes());
        match self {
            Self::Body => whole(&mut hash, parts, &body),
            Self::Pointers(pointers) => {
                match Json::read(&body).map_err(|TooDeep| Problem::BodyTooDeep)? {
                    None => whole(&mut hash, parts, &body),
                    Some(json) => {
                        part(&mut hash, &content_type(parts));
                        for pointer in pointers {
                            let found = json.at(pointer);
                            part(&mut hash, &(found.len() as u64).to_be_bytes());
                            for value in found {
                                part(&mut hash, value.canonical().as_bytes());
                            }
                        }
                    }
                }
            }
            Self::Fields => {
                let given = given(parts);
                let kind = media_type(&given);
                let fields = match &kind {
                    None => None,
                    Some(kind) => fields::fields(&kind.essence, &given, &body).await,
                };
                match (kind, fields) {
                    (Some(kind), Some(fields)) => {
                        part(&mut hash, kind.text_without("boundary").as_bytes());
                        fields.iter().for_each(|field| part(&mut hash, field));
                    }
                    _ => whole(&mut hash, parts, &body),
                }
            }
            Self::By(rule) => part(&mut hash, &(rule.make)(parts, &body)),
        }
        Ok(hash.finalize().into())
    }

    /// What the rule is; its number changes with what this file does.
    fn rule(&self) -> String {
        match self {
            Self::Body => "body/2".to_owned(),
            Self::Pointers(pointers) => format!("pointers/2 {}", Value::from(pointers.clone())),
            Self::Fields => "fields/1".to_owned(),
            Self::By(rule) => format!("by/1 {}", rule.name),
        }
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rule())
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule").field("name", &self.name).finish_non_exhaustive()
    }
}

fn whole(hash: &mut Sha256, parts: &Parts, body: &[u8]) {
    part(hash, &content_type(parts));
    part(hash, body);
}

fn given(parts: &Parts) -> Cow<'_, str> {
    parts
        .headers
        .get(CONTENT_TYPE)
        .map_or(Cow::Borrowed(""), |value| String::from_utf8_lossy(value.as_bytes()))
}

/// In one spelling; as it was sent, if it cannot be read.
fn content_type(parts: &Parts) -> Vec<u8> {
    let value = parts.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let read = std::str::from_utf8(value).ok().and_then(media_type);
    read.map_or_else(|| value.to_vec(), |kind| kind.text().into_bytes())
}

/// With its length in front, so that no two lists of parts run together into the same bytes.
fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};
    use futures_util::FutureExt;
    use http::Request;
    use http::header::CONTENT_ENCODING;

    use super::*;

    fn try_digest(
        rule: &Fingerprint,
        (method, target, kind): (&str, &str, &str),
        body: &[u8],
    ) -> Result<[u8; 32], Problem> {
        let request = Request::builder().method(method).uri(target).header(CONTENT_TYPE, kind);
        let (parts, ()) = request.body(()).unwrap().into_parts();
        rule.digest(&parts, body, None).now_or_never().expect("it waits for nothing")
    }

    fn digest(rule: &Fingerprint, method: &str, target: &str, kind: &str, body: &str) -> [u8; 32] {
        try_digest(rule, (method, target, kind), body.as_bytes()).unwrap()
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
    fn the_spelling_of_a_charset_does_not_count() {
        let of = |kind| digest(&Fingerprint::Body, "POST", "/pay", kind, "{}");
        assert_eq!(of("application/json; charset=utf-8"), of("application/json;charset=\"UTF-8\""));
        assert_ne!(of("text/plain; charset=utf-8"), of("text/plain; charset=latin1"));
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
    fn both_of_two_members_of_one_name_count() {
        let rule = Fingerprint::Pointers(vec!["/amount".into()]);
        let of = |body| digest(&rule, "POST", "/pay", "application/json", body);
        let first = of(r#"{"amount": 1, "amount": 2}"#);
        for other in [r#"{"amount": 9, "amount": 2}"#, r#"{"amount": 2}"#, r#"{"amount": [1, 2]}"#]
        {
            assert_ne!(first, of(other), "{other}");
        }
    }

    #[test]
    fn a_body_that_is_too_deep_is_refused() {
        let rule = Fingerprint::Pointers(vec!["/amount".into()]);
        let kind = ("POST", "/pay", "application/json");
        for depth in [3_000, 900_000] {
            let deep = format!(r#"{{"amount": {}{}}}"#, "[".repeat(depth), "]".repeat(depth));
            assert_eq!(try_digest(&rule, kind, deep.as_bytes()), Err(Problem::BodyTooDeep));
            // A rule that looks at no value has no limit.
            assert!(try_digest(&Fingerprint::Body, kind, deep.as_bytes()).is_ok());
        }
    }

    #[test]
    fn another_rule_is_another_digest() {
        let of = |rule: Fingerprint| digest(&rule, "POST", "/pay", "application/json", "{}");
        let pointers =
            |names: &[&str]| Fingerprint::Pointers(names.iter().map(|&n| n.into()).collect());
        let by = |name: &str| Fingerprint::by(name, |_, body: &[u8]| body.to_vec());
        assert_ne!(of(Fingerprint::Body), of(pointers(&[])));
        assert_ne!(of(Fingerprint::Body), of(Fingerprint::Fields));
        assert_ne!(of(pointers(&["/a"])), of(pointers(&["/a", "/b"])));
        assert_ne!(of(by("a/1")), of(by("a/2")));
    }

    #[test]
    fn a_closure_says_what_counts() {
        let rule = Fingerprint::by("length/1", |_, body| body.len().to_string().into_bytes());
        let of = |kind, body| digest(&rule, "POST", "/pay", kind, body);
        assert_eq!(of("text/plain", "ab"), of("text/html", "cd"));
        assert_ne!(of("text/plain", "ab"), of("text/plain", "abc"));
    }

    #[test]
    fn a_form_is_the_same_under_another_boundary() {
        let form = |boundary: &str, fields: &[(&str, &str)]| {
            let mut body = String::new();
            for (disposition, value) in fields {
                body.push_str(&format!(
                    "--{boundary}\r\ncontent-disposition: form-data; {disposition}\r\n\r\n{value}\r\n"
                ));
            }
            body.push_str(&format!("--{boundary}--\r\n"));
            let kind = format!("multipart/form-data; boundary={boundary}");
            digest(&Fingerprint::Fields, "POST", "/pay", &kind, &body)
        };
        let (amount, file) = (("name=\"amount\"", "5"), ("name=\"f\"; filename=\"a.txt\"", "text"));
        let first = form("one", &[amount, file]);
        assert_eq!(first, form("two", &[file, amount]));
        for other in [
            &[("name=\"amount\"", "6"), file][..],
            &[amount, ("name=\"f\"; filename=\"b.txt\"", "text")],
            &[amount, file, file],
            &[amount],
        ] {
            assert_ne!(first, form("one", other), "{other:?}");
        }
        // The order of two values of one field is theirs.
        let twice = |a, b| form("one", &[("name=\"n\"", a), ("name=\"n\"", b)]);
        assert_ne!(twice("1", "2"), twice("2", "1"));
        // A body that is no form is taken whole.
        let kind = "multipart/form-data; boundary=one";
        let broken = |body| digest(&Fingerprint::Fields, "POST", "/pay", kind, body);
        assert_ne!(broken("a"), broken("b"));
    }

    #[test]
    fn a_form_in_a_url_s_encoding_is_read_by_field() {
        let kind = "application/x-www-form-urlencoded";
        let of = |body| digest(&Fingerprint::Fields, "POST", "/pay", kind, body);
        assert_eq!(of("a=1+2&b=%61"), of("b=a&a=1%202"));
        assert_ne!(of("a=1&a=2"), of("a=2&a=1"));
        assert_ne!(of("a=1"), of("a=1&b="));
    }

    #[test]
    fn a_content_coding_can_be_undone() {
        let gzip = |content: &[u8], mtime| {
            let mut encoder = GzBuilder::new().mtime(mtime).write(Vec::new(), Compression::fast());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        let of = |body: &[u8], max: Option<usize>| {
            let request = Request::post("/pay").header(CONTENT_ENCODING, "GZIP");
            let (parts, ()) = request.body(()).unwrap().into_parts();
            Fingerprint::Body.digest(&parts, body, max).now_or_never().unwrap()
        };
        let (one, other) = (gzip(b"content", 1), gzip(b"content", 2));
        assert_ne!(of(&one, None), of(&other, None));
        assert_eq!(of(&one, Some(7)).unwrap(), of(&other, Some(7)).unwrap());
        assert_ne!(of(&one, Some(7)), of(&gzip(b"CONTENT", 1), Some(7)));
        // It has a limit, and what is not what it says is taken as it is.
        assert_eq!(of(&one, Some(6)), Err(Problem::BodyTooLarge));
        let bomb = gzip(&vec![0; 20_000_000], 1);
        assert_eq!(of(&bomb, Some(1_000)), Err(Problem::BodyTooLarge));
        assert_ne!(of(b"no gzip", Some(7)), of(b"no gzip either", Some(7)));
    }
}
