//! Moments as arguments.

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

/// `2026-01-31T08:00:00Z`, with whatever offset, or a day in UTC: `2026-01-31`.
pub(super) fn parse(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(day) = Date::parse(text, format_description!("[year]-[month]-[day]")) {
        return Ok(day.midnight().assume_utc());
    }
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|error| format!("{error}; for example 2026-01-31, 2026-01-31T08:00:00Z"))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_moment_is_a_time_or_the_beginning_of_a_day() {
        assert_eq!(parse("2026-01-31"), Ok(datetime!(2026-01-31 00:00 UTC)));
        assert_eq!(parse("2026-01-31T08:00:00+02:00"), Ok(datetime!(2026-01-31 06:00 UTC)));
        for bad in ["yesterday", "2026-02-30", "2026-01-31T08:00:00", "2026-01-31 08:00"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
