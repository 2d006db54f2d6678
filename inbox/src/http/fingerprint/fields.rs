//! The fields of a form, apart from how they were put into one body.

use std::convert::Infallible;
use std::future::ready;

use bytes::Bytes;
use futures_util::stream;
use sha2::{Digest, Sha256};

use super::part;

/// What each field says, by name, and those of one name in their order: `multipart/form-data` (RFC
/// 7578) without its boundary, or `application/x-www-form-urlencoded`. `None` if it is neither.
pub(super) async fn fields(
    essence: &str,
    content_type: &str,
    body: &[u8],
) -> Option<Vec<[u8; 32]>> {
    let mut fields = match essence {
        "multipart/form-data" => multipart(content_type, body).await?,
        "application/x-www-form-urlencoded" => form_urlencoded::parse(body)
            .map(|(name, value)| (name.to_string(), digest(&[&name, &value])))
            .collect(),
        _ => return None,
    };
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    Some(fields.into_iter().map(|(_, digest)| digest).collect())
}

async fn multipart(content_type: &str, body: &[u8]) -> Option<Vec<(String, [u8; 32])>> {
    let boundary = multer::parse_boundary(content_type).ok()?;
    // It is in memory already, so nothing here waits.
    let body = stream::once(ready(Ok::<_, Infallible>(Bytes::copy_from_slice(body))));
    let mut multipart = multer::Multipart::new(body, boundary);
    let mut fields = Vec::new();
    while let Some(field) = multipart.next_field().await.ok()? {
        let name = field.name().unwrap_or_default().to_owned();
        let file = field.file_name().map(str::to_owned);
        let kind = field.content_type().map(ToString::to_string);
        let bytes = field.bytes().await.ok()?;
        let mut hash = Sha256::new();
        part(&mut hash, name.as_bytes());
        for text in [file, kind] {
            part(&mut hash, &[u8::from(text.is_some())]);
            part(&mut hash, text.unwrap_or_default().as_bytes());
        }
        part(&mut hash, &bytes);
        fields.push((name, hash.finalize().into()));
    }
    Some(fields)
}

fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for text in parts {
        part(&mut hash, text.as_bytes());
    }
    hash.finalize().into()
}
