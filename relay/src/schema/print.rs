//! The migrations as one plain SQL script, for people who apply SQL by their own means.

use std::fmt::Write as _;

use super::Schema;
use super::doorbell::Doorbell;
use super::migrate::Options;
use super::outbox::OUTBOX;
use super::place::NOTE;

/// Everything after version `after` (0 = from nothing) as SQL, with doorbell and rights. See
/// [`MigrationSet::print`](outbox_inbox::schema::migration::MigrationSet::print).
#[must_use]
pub fn print(schema: &Schema, after: i32, options: &Options) -> String {
    let mut last = format!("{};\n", schema.sql(NOTE));
    let mut call = |function: &str, argument: Option<&str>| {
        let text = schema.sql(&format!("SELECT outbox.{function}"));
        let argument = argument.map(literal).unwrap_or_default();
        writeln!(last, "{text}({argument});").expect("a String takes any text");
    };
    call("install_doorbell", options.doorbell.map(Doorbell::as_str));
    for role in &options.grant_writer {
        call("grant_writer", Some(&identifier(role)));
    }
    for role in &options.grant_relay {
        call("grant_relay", Some(&identifier(role)));
    }
    OUTBOX.print(schema, after, options.lock_timeout, &last)
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
