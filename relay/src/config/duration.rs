//! Durations as people write them: `"500ms"`, `"10s"`, `"1h 30m"`, `"7d"`.

use std::time::Duration;

/// For the hint of every message about a duration.
pub(super) const DURATION_HINT: &str =
    "write a number with a unit: \"500ms\", \"10s\", \"5m\", \"12h\" or \"7d\"";

/// Parses a duration; the error says what is wrong and does not repeat the text.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim()).map_err(|error| format!("not a duration: {error}"))
}

/// A duration as it is written in the file.
pub(super) fn format_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("7d").unwrap(), Duration::from_secs(7 * 86_400));
        assert_eq!(parse_duration(" 1h 30m ").unwrap(), Duration::from_secs(5_400));
        assert_eq!(parse_duration("0s").unwrap(), Duration::ZERO);
        for bad in ["", "10", "ten seconds", "-1s", "10 parsecs", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
