//! Text of a table as far as it can be shown: what is not UTF-8 in it (an SQL_ASCII database holds any
//! byte) is replaced, and hides no other row.

use std::error::Error;

use tokio_postgres::types::{FromSql, Type};

/// A text, with what is not UTF-8 replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lossy(pub(super) String);

impl<'a> FromSql<'a> for Lossy {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(ty: &Type) -> bool {
        // A function's result comes as bytea where the server would refuse to send it as text.
        matches!(*ty, Type::TEXT | Type::VARCHAR | Type::NAME | Type::BYTEA)
    }
}

/// The JSON text of a `jsonb` as it stands, however deep and with whatever numbers.
pub(super) struct Json(pub(super) String);

impl<'a> FromSql<'a> for Json {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        // jsonb's binary form is a version byte before its text; bytea has none.
        let text = raw.strip_prefix(&[1]).unwrap_or(raw);
        Ok(Self(String::from_utf8_lossy(text).into_owned()))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::JSONB | Type::BYTEA)
    }
}
