//! Ages for people.

use std::time::Duration;

/// `3d 4h`, `12m 5s`, `0.4s`: at most two units.
pub(super) fn age(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1}s");
    }
    let mut rest = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).as_secs();
    let mut parts = Vec::new();
    for (size, name) in [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")] {
        if rest >= size || !parts.is_empty() {
            parts.push(format!("{}{name}", rest / size));
            rest %= size;
        }
    }
    parts.truncate(2);
    parts.join(" ")
}

/// An age as an argument: `90s`, `15m`, `2h`, `7d`.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; for example 90s, 15m, 2h, 7d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_at_most_two_units() {
        let cases = [
            (0.04, "0.0s"),
            (9.94, "9.9s"),
            (59.9, "59s"),
            (60.0, "1m 0s"),
            (3_725.0, "1h 2m"),
            (273_600.0, "3d 4h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(seconds), text);
        }
    }
}
