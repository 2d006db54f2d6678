//! Sizes in bytes as people write them: `"32MiB"`, `"64 KiB"`, `"1MB"`, `"512B"`.

/// For the hint of every message about a size.
pub(super) const SIZE_HINT: &str = "write a number with a unit: \"512KiB\", \"32MiB\", \"1GiB\" (or \"32MB\" for 32,000,000 bytes)";

/// The units, the largest first in each family.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Parses a size; the error says what is wrong and does not repeat the text.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(|b| b.is_ascii_digit()).count();
    let (number, unit) = (&text[..digits], text[digits..].trim_start());
    if number.is_empty() {
        return Err("not a size: it begins with no digit".to_owned());
    }
    let factor = UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
        .map(|&(_, factor)| factor)
        .ok_or_else(|| match unit {
            "" => "not a size: the unit is missing".to_owned(),
            _ => "not a size: unknown unit".to_owned(),
        })?;
    let number: u64 = number.parse().map_err(|_| "not a size: too large".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "not a size: too large".to_owned())
}

/// A size as it is written in the file: in the largest binary unit that divides it.
pub(super) fn format_size(bytes: u64) -> String {
    let (unit, factor) = UNITS[..3]
        .iter()
        .find(|&&(_, factor)| bytes > 0 && bytes.is_multiple_of(factor))
        .unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("32MiB").unwrap(), 32 << 20);
        assert_eq!(parse_size("64 kib").unwrap(), 64 << 10);
        assert_eq!(parse_size("1MB").unwrap(), 1_000_000);
        assert_eq!(parse_size("512B").unwrap(), 512);
        for bad in ["", "MiB", "32", "32 elephants", "-1MiB", "1.5MiB", "99999999999GiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_printed_can_be_written() {
        for bytes in [0, 1, 1023, 1024, 1536, 8 << 20, 1 << 40] {
            assert_eq!(parse_size(&format_size(bytes)).unwrap(), bytes);
        }
        assert_eq!(format_size(8 << 20), "8MiB");
    }
}
