//! Content codings, undone: a client that compresses anew makes other bytes of the same content.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::header::CONTENT_ENCODING;
use http::request::Parts;

/// It is larger, once undone, than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

/// A body without its coding (`gzip` or `deflate`, RFC 9110, section 8.4.1), at most `bytes_max`
/// bytes. A body in another coding, in several, or in none is left as it is.
pub(super) fn undone<'a>(
    parts: &Parts,
    body: &'a [u8],
    bytes_max: usize,
) -> Result<Cow<'a, [u8]>, TooLarge> {
    let mut codings = parts.headers.get_all(CONTENT_ENCODING).iter();
    let coding = match (codings.next(), codings.next()) {
        (Some(coding), None) => coding.to_str().unwrap_or_default().trim().to_ascii_lowercase(),
        _ => return Ok(Cow::Borrowed(body)),
    };
    let read = match coding.as_str() {
        "gzip" | "x-gzip" => read(MultiGzDecoder::new(body), bytes_max)?,
        "deflate" => read(ZlibDecoder::new(body), bytes_max)?,
        _ => None,
    };
    Ok(read.map_or(Cow::Borrowed(body), Cow::Owned))
}

/// `None` if it is not what its header says.
fn read(decoder: impl Read, bytes_max: usize) -> Result<Option<Vec<u8>>, TooLarge> {
    let mut bytes = Vec::new();
    // One more than it may have: so much is ever held of a body that expands without end.
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    match decoder.take(limit).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() > bytes_max => Err(TooLarge),
        Ok(_) => Ok(Some(bytes)),
        Err(_) => Ok(None),
    }
}
