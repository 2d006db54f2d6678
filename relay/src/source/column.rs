//! The columns of a message as PostgreSQL sends them, in binary, and as they are kept.

use std::error::Error;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};
use uuid::Uuid;

use super::error::SourceError;
use crate::message::{Message, Parts};

/// Payloads up to here come with the read itself, longer ones by their ids once there is room for
/// them. So a read of n rows has a limit in bytes without any running sum, which cost the server
/// 0.9 µs a row against 0.1 for this (measured at 300 B a row).
pub(super) const INLINE_BYTES_MAX: usize = 4096;

/// The most that one row costs without a large payload: the table's CHECKs on headers, key, topic
/// and type, and the value itself.
pub(super) const ROW_COST_MAX: usize =
    INLINE_BYTES_MAX + 16_384 + 2048 + 255 + 255 + size_of::<Message>();

/// A select list of 8 columns over a table alias `m`, in the order that [`Body::decode`] takes.
/// `octet_length` of a stored value detoasts nothing.
pub(super) fn list() -> String {
    format!(
        "m.message_id, m.created_at, m.topic, m.key, m.type, m.headers,
        CASE WHEN octet_length(m.payload) <= {INLINE_BYTES_MAX} THEN m.payload END,
        CASE WHEN octet_length(m.payload) > {INLINE_BYTES_MAX} THEN octet_length(m.payload) END"
    )
}

/// A message, or what is known of it before its payload has been read.
#[derive(Debug)]
pub(super) enum Body {
    /// Complete.
    Ready(Message),
    /// The payload is still to be read.
    Large(Large),
    /// There is no such message any more.
    Gone,
}

/// A row whose payload is still to be read.
#[derive(Debug)]
pub(super) struct Large {
    pub(super) id: i64,
    /// What the row costs without its payload, in bytes.
    pub(super) head_bytes: usize,
    /// What the payload costs, in bytes.
    pub(super) payload_bytes: usize,
    row: Row,
    first: usize,
}

impl Body {
    /// Takes the columns of [`list`] from `first` on. A payload above `row_bytes_max` is not read.
    pub(super) fn decode(
        id: i64,
        row: Row,
        first: usize,
        row_bytes_max: usize,
    ) -> Result<Self, SourceError> {
        let error = |error: tokio_postgres::Error| undecodable(id, &error);
        let payload: Option<&[u8]> = row.try_get(first + 6).map_err(error)?;
        let large: Option<i32> = row.try_get(first + 7).map_err(error)?;
        let large = large.map(i32::unsigned_abs).map(|bytes| bytes as usize);
        // The limit may lie below what comes with the read itself.
        let size = large.or(payload.map(<[u8]>::len));
        let oversize = size.filter(|&bytes| bytes > row_bytes_max).map(|bytes| bytes as u64);
        let payload = payload.filter(|_| oversize.is_none());
        let message = build(id, &row, first, payload, oversize)?;
        Ok(match large {
            Some(payload_bytes) if oversize.is_none() => {
                let head_bytes = message.cost_bytes();
                Self::Large(Large { id, head_bytes, payload_bytes, row, first })
            }
            _ => Self::Ready(message),
        })
    }

    /// What it costs without a large payload, in bytes.
    pub(super) fn cost_bytes(&self) -> usize {
        match self {
            Self::Ready(message) => message.cost_bytes(),
            Self::Large(large) => large.head_bytes,
            Self::Gone => 0,
        }
    }
}

impl Large {
    /// The message, with its payload.
    pub(super) fn complete(&self, payload: &[u8]) -> Result<Message, SourceError> {
        build(self.id, &self.row, self.first, Some(payload), None)
    }
}

fn build(
    id: i64,
    row: &Row,
    first: usize,
    payload: Option<&[u8]>,
    oversize_bytes: Option<u64>,
) -> Result<Message, SourceError> {
    let error = |error: tokio_postgres::Error| undecodable(id, &error);
    let headers: Option<JsonText<'_>> = row.try_get(first + 5).map_err(error)?;
    let created_at: UnixMicros = row.try_get(first + 1).map_err(error)?;
    let message_id: Uuid = row.try_get(first).map_err(error)?;
    Ok(Message::new(Parts {
        id,
        message_id,
        created_at_us: created_at.0,
        topic: row.try_get(first + 2).map_err(error)?,
        key: row.try_get(first + 3).map_err(error)?,
        kind: row.try_get(first + 4).map_err(error)?,
        headers: headers.map(|json| json.0),
        payload,
        oversize_bytes,
    }))
}

/// Text that is not UTF-8 is possible only in a database whose encoding is SQL_ASCII.
fn undecodable(id: i64, error: &tokio_postgres::Error) -> SourceError {
    let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    SourceError::stopped(
        format!("message {id} cannot be read: {cause}"),
        "the database's encoding must be UTF8 (SHOW server_encoding), and the table as `outbox-relay migrate` made it",
    )
}

/// jsonb's text: its binary form is a version byte before that text. Not parsed.
struct JsonText<'a>(&'a str);

impl<'a> FromSql<'a> for JsonText<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        match raw.split_first() {
            Some((1, text)) => Ok(Self(std::str::from_utf8(text)?)),
            _ => Err("unknown version of jsonb".into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }
}

/// timestamptz as microseconds since 1970; PostgreSQL counts from 2000. ±infinity saturate.
struct UnixMicros(i64);

const UNIX_MICROS_AT_2000: i64 = 946_684_800_000_000;

impl<'a> FromSql<'a> for UnixMicros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?).saturating_add(UNIX_MICROS_AT_2000)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}
