//! A time of PostgreSQL as it stands in a table: also `infinity`, and years that no calendar of the
//! `time` crate has.

use std::error::Error;
use std::fmt;

use serde::{Serialize, Serializer};
use time::{Duration, OffsetDateTime};
use tokio_postgres::types::{FromSql, Type};

use super::rfc3339;

/// A `timestamptz`, whatever its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Before all others: `-infinity`.
    Never,
    /// A time of the calendar.
    At(OffsetDateTime),
    /// Too far away for the calendar, in years from 2000.
    Far(i64),
    /// After all others: `infinity`.
    Forever,
}

/// What PostgreSQL counts its microseconds from.
const EPOCH: OffsetDateTime = time::macros::datetime!(2000-01-01 0:00 UTC);

const MICROSECONDS_A_YEAR: i64 = 31_556_952_000_000;

impl Moment {
    fn new(microseconds: i64) -> Self {
        match microseconds {
            i64::MIN => Self::Never,
            i64::MAX => Self::Forever,
            _ => EPOCH
                .checked_add(Duration::microseconds(microseconds))
                .map_or(Self::Far(microseconds / MICROSECONDS_A_YEAR), Self::At),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("-infinity"),
            Self::Forever => f.write_str("infinity"),
            Self::Far(years) => write!(f, "year {}", years.saturating_add(2000)),
            Self::At(at) => f.write_str(&rfc3339(*at)),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            // As exactly as before, where the format can say it.
            Self::At(at) if (0..=9999).contains(&at.year()) => {
                time::serde::rfc3339::serialize(at, serializer)
            }
            other => serializer.collect_str(other),
        }
    }
}

impl<'a> FromSql<'a> for Moment {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::new(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_can_be_shown_and_serialized() {
        for (microseconds, shown) in [
            (0, "2000-01-01T00:00:00Z"),
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
            (i64::MAX - 1, "year 294277"),
            (i64::MIN + 1, "year -290277"),
        ] {
            let moment = Moment::new(microseconds);
            assert_eq!(moment.to_string(), shown);
            assert!(serde_json::to_string(&moment).is_ok());
        }
        // 44 before Christ.
        let before_christ = Moment::new(-64_500_000_000_000_000);
        assert!(before_christ.to_string().starts_with("-0044-"), "{before_christ}");
        assert!(serde_json::to_string(&before_christ).is_ok());
    }
}
