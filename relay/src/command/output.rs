//! Standard output: text for people, JSON for programs.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::printable::escaped_lines;

/// Writes everything. A reader that has seen enough (`| head`) is no failure.
pub(super) fn print(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes one JSON value and a newline.
fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(io::Error::from)?;
    text.push(b'\n');
    print(&text)
}

/// Prints an answer: as JSON, or as `text` renders it.
pub(super) fn answer(
    json: bool,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> io::Result<()> {
    if json { print_json(value) } else { print(escaped_lines(&text()).as_bytes()) }
}

/// `: 4, 7, …`: the ids that an answer names, of so many; nothing if it names none.
pub(super) fn ids(named: &[i64], rows: u64) -> String {
    if named.is_empty() {
        return String::new();
    }
    let ids: Vec<String> = named.iter().map(ToString::to_string).collect();
    let rest = if rows > named.len() as u64 { ", …" } else { "" };
    format!(": {}{rest}", ids.join(", "))
}
