//! Text from outside as a terminal or a log may have it: nothing in it that moves the cursor, turns the
//! direction of writing, or ends a line.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;
use unicode_general_category::{GeneralCategory, get_general_category};

/// Whether a terminal obeys the character, or shows nothing of it.
#[must_use]
pub fn is_unseen(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_control();
    }
    matches!(
        get_general_category(char),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

/// The text with such characters escaped.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, |_| false)
}

/// Several lines with such characters escaped, but for what ends the lines.
#[must_use]
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped_but(text, |char| char == '\n')
}

fn escaped_but(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|char| is_unseen(char) && !keep(char)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_unseen(char) && !keep(char) {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    Cow::Owned(shown)
}

/// A writer of log records, whose ASCII the library has escaped already: what is left is escaped as
/// JSON does it, which is also readable in text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Records<W>(pub(crate) W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Records<W> {
    type Writer = Record<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Record(self.0.make_writer())
    }
}

/// One record, which the library writes at once.
pub(crate) struct Record<W>(W);

impl<W: Write> Write for Record<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.is_ascii() && text.chars().any(is_escaped_in_a_record) => {
                self.0.write_all(record(text).as_bytes())?;
            }
            _ => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn is_escaped_in_a_record(char: char) -> bool {
    !char.is_ascii() && is_unseen(char)
}

fn record(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_escaped_in_a_record(char) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(char);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_escaped() {
        for (char, shown) in [
            ('\x1b', "\\u{1b}"),
            ('\n', "\\n"),
            ('\u{85}', "\\u{85}"),
            ('\u{202e}', "\\u{202e}"),
            ('\u{2066}', "\\u{2066}"),
            ('\u{2028}', "\\u{2028}"),
            ('\u{2029}', "\\u{2029}"),
            ('\u{feff}', "\\u{feff}"),
            ('\u{200b}', "\\u{200b}"),
            ('\u{e0001}', "\\u{e0001}"),
        ] {
            assert_eq!(escaped(&format!("a{char}b")), format!("a{shown}b"));
        }
        for text in ["plain", "grüße", "日本語", "🙂", "e\u{301}"] {
            assert!(matches!(escaped(text), Cow::Borrowed(_)), "{text}");
        }
        assert_eq!(escaped_lines("a\nb\u{2028}"), "a\nb\\u{2028}");
    }

    #[test]
    fn a_record_stays_json() {
        let mut bytes = Vec::new();
        let text = "{\"a\": \"x\u{202e}\u{e0001}ü\"}\n";
        assert_eq!(Record(&mut bytes).write(text.as_bytes()).unwrap(), text.len());
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["a"], "x\u{202e}\u{e0001}ü");
        assert!(!String::from_utf8(bytes).unwrap().contains('\u{202e}'));
    }
}
