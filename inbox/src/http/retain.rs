//! What of an answer is kept, and what becomes of the effects: decided from its status, unless the
//! handler says otherwise.

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE, ETAG,
    HeaderName, LAST_MODIFIED, LINK, LOCATION, VARY,
};
use http::{HeaderMap, StatusCode};

/// Kept unless the layer was told otherwise: what describes the body, and where the result is.
pub const DEFAULT_STORED_HEADERS: &[HeaderName] = &[
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LOCATION,
    CONTENT_TYPE,
    ETAG,
    LAST_MODIFIED,
    LINK,
    LOCATION,
    VARY,
];

/// Never kept: credentials and challenges, what belongs to one connection, what is made anew each time.
const NEVER_STORED: &[&str] = &[
    "authentication-info",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "set-cookie",
    "set-cookie2",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// The most that is kept of an answer's headers, bytes of their names and values as the table has
/// them. An answer with more of them is not given again, as one whose body is too large.
pub const STORED_HEADERS_BYTES_MAX: usize = 32 * 1024;

/// What a handler wants done with its work, as an extension of its response. Without it the status
/// says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The effects and the answer: as below 400.
    Everything,
    /// The answer, and none of the effects: as from 400 to 499.
    Answer,
    /// Neither; the same request is done anew. As from 500 on, and of what asks for another attempt
    /// (401, 408, 425, 429).
    ///
    /// In the leased mode what was done outside cannot be taken back: the next request under the
    /// key goes on at the recovery point, and makes no step again that was recorded. Said by the
    /// handler, and with no step recorded, it gives the key back, for any request. A handler whose
    /// effects outside are no steps says `Everything` of every answer that comes after them.
    Nothing,
}

/// Marks a response whose body must not be kept, as an extension of it: it holds a secret. A
/// repetition gets a 409 instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unretained;

impl Keep {
    /// What a status means when the handler says nothing.
    pub(super) fn by_status(status: StatusCode) -> Self {
        let once_more = [
            StatusCode::UNAUTHORIZED,
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::TOO_EARLY,
            StatusCode::TOO_MANY_REQUESTS,
        ];
        if status.is_server_error() || once_more.contains(&status) {
            Self::Nothing
        } else if status.is_client_error() {
            Self::Answer
        } else {
            Self::Everything
        }
    }
}

/// Whether the header may be put on the list.
pub(super) fn may_be_stored(name: &HeaderName) -> bool {
    !NEVER_STORED.contains(&name.as_str())
}

/// The headers that are kept, in the order of the list, and whether there was room for all of them.
/// What is not visible ASCII is left out.
pub(super) fn stored(headers: &HeaderMap, list: &[HeaderName]) -> (Vec<(String, String)>, bool) {
    let (mut kept, mut bytes, mut whole) = (Vec::new(), 2, true);
    for name in list {
        for value in headers.get_all(name) {
            let Ok(value) = value.to_str() else { continue };
            // As the column's CHECK counts: each pair in brackets, quotes and commas, with its
            // escapes.
            let escapes = value.bytes().filter(|byte| b"\"\\\t".contains(byte)).count();
            bytes += name.as_str().len() + value.len() + escapes + 10;
            if bytes > STORED_HEADERS_BYTES_MAX {
                whole = false;
                break;
            }
            kept.push((name.as_str().to_owned(), value.to_owned()));
        }
    }
    (kept, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_is_kept() {
        for (status, keep) in [
            (200, Keep::Everything),
            (303, Keep::Everything),
            (400, Keep::Answer),
            (409, Keep::Answer),
            (401, Keep::Nothing),
            (429, Keep::Nothing),
            (500, Keep::Nothing),
            (503, Keep::Nothing),
        ] {
            assert_eq!(Keep::by_status(StatusCode::from_u16(status).unwrap()), keep, "{status}");
        }
    }

    #[test]
    fn only_what_is_on_the_list_is_kept() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("set-cookie", "s=1"),
            ("date", "now"),
            ("link", "<a>"),
            ("link", "<b>"),
            ("x-secret", "1"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let pair = |value: &str| ("link".to_owned(), value.to_owned());
        let kept = (vec![pair("<a>"), pair("<b>")], true);
        assert_eq!(stored(&headers, DEFAULT_STORED_HEADERS), kept);
    }

    #[test]
    fn headers_have_a_limit() {
        let mut headers = HeaderMap::new();
        headers.insert("link", "\"".repeat(20_000).parse().unwrap());
        headers.insert("location", "/payments/7".parse().unwrap());
        let (kept, whole) = stored(&headers, DEFAULT_STORED_HEADERS);
        assert_eq!((kept.len(), whole), (0, false));
        let (kept, whole) = stored(&headers, &[LOCATION, LINK]);
        assert_eq!((kept.len(), whole), (1, false));
    }

    #[test]
    fn no_default_is_one_that_is_never_kept() {
        assert!(DEFAULT_STORED_HEADERS.iter().all(may_be_stored));
    }
}
