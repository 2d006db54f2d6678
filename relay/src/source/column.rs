//! The columns of a message as PostgreSQL sends them, in binary, and as they are kept.

use std::error::Error as StdError;

use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Error, Row};

use crate::database::describe;
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
    /// Where a value cannot be decoded, the row is one that cannot be read.
    pub(super) fn decode(id: i64, row: Row, first: usize, row_bytes_max: usize) -> Self {
        match head(id, &row, first, row_bytes_max) {
            Ok((message, None)) => Self::Ready(message),
            Ok((message, Some(payload_bytes))) => {
                let head_bytes = message.cost_bytes();
                Self::Large(Large { id, head_bytes, payload_bytes, row, first })
            }
            Err(error) => Self::Ready(unreadable(id, &row, first, &describe(&error))),
        }
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
    pub(super) fn complete(&self, payload: &[u8]) -> Message {
        build(self.id, &self.row, self.first, Some(payload), None)
            .unwrap_or_else(|error| self.unreadable(&describe(&error)))
    }

    /// The message, whose payload cannot be read.
    pub(super) fn unreadable(&self, reason: &str) -> Message {
        unreadable(self.id, &self.row, self.first, reason)
    }
}

/// The message, and the length of its payload where that is still to be read.
fn head(
    id: i64,
    row: &Row,
    first: usize,
    row_bytes_max: usize,
) -> Result<(Message, Option<usize>), Error> {
    let payload: Option<&[u8]> = row.try_get(first + 6)?;
    let large: Option<i32> = row.try_get(first + 7)?;
    let large = large.map(i32::unsigned_abs).map(|bytes| bytes as usize);
    // The limit may lie below what comes with the read itself.
    let size = large.or(payload.map(<[u8]>::len));
    let oversize = size.filter(|&bytes| bytes > row_bytes_max).map(|bytes| bytes as u64);
    let payload = payload.filter(|_| oversize.is_none());
    let message = build(id, row, first, payload, oversize)?;
    Ok((message, large.filter(|_| oversize.is_none())))
}

fn build(
    id: i64,
    row: &Row,
    first: usize,
    payload: Option<&[u8]>,
    oversize_bytes: Option<u64>,
) -> Result<Message, Error> {
    let headers: Option<JsonText<'_>> = row.try_get(first + 5)?;
    let created_at: UnixMicros = row.try_get(first + 1)?;
    Ok(Message::new(Parts {
        id,
        message_id: row.try_get(first)?,
        created_at_us: created_at.0,
        topic: row.try_get(first + 2)?,
        key: row.try_get(first + 3)?,
        kind: row.try_get(first + 4)?,
        headers: headers.map(|json| json.0),
        payload,
        oversize_bytes,
    }))
}

/// What can be read of a row that cannot be read as a whole: its key goes on holding what it holds.
fn unreadable(id: i64, row: &Row, first: usize, reason: &str) -> Message {
    let parts = Parts {
        id,
        message_id: row.try_get(first).unwrap_or_default(),
        created_at_us: row.try_get(first + 1).map_or(0, |at: UnixMicros| at.0),
        topic: row.try_get(first + 2).unwrap_or_default(),
        key: row.try_get(first + 3).unwrap_or_default(),
        kind: row.try_get(first + 4).unwrap_or_default(),
        headers: None,
        payload: None,
        oversize_bytes: None,
    };
    Message::unreadable(parts, reason)
}

/// jsonb's text: its binary form is a version byte before that text. Not parsed.
struct JsonText<'a>(&'a str);

impl<'a> FromSql<'a> for JsonText<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
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
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?).saturating_add(UNIX_MICROS_AT_2000)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}
