//! The PostgreSQL schema that holds the inbox: its name, and its migrations.
//!
//! Every SQL text of the project writes the schema as `outbox.`; [`Schema::sql`] puts the
//! configured name there. So the texts stay readable, greppable and runnable by hand. An inbox may
//! share the schema of an outbox in the same database: no name of the one is a name of the other.

use std::fmt;
use std::str::FromStr;

mod inbox;
pub mod migration;

pub use inbox::{Report, installed_version, migrate, newest_version, print};
pub use migration::{Applied, DEFAULT_LOCK_TIMEOUT, MigrateError};

/// The schema's name when the configuration does not say otherwise.
pub const DEFAULT_SCHEMA: &str = "outbox";

/// The name must leave room for `_bell` and `_free` in a channel name, which PostgreSQL limits to 63 bytes.
pub const SCHEMA_BYTES_MAX: usize = 58;

/// The name of the schema, checked: `[a-z_][a-z0-9_]*`, at most [`SCHEMA_BYTES_MAX`] bytes.
///
/// No character in it needs escaping, neither as an identifier nor inside a literal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Schema(String);

/// Why a name cannot be the outbox's schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema name {name:?} {reason}")]
pub struct SchemaNameError {
    name: String,
    reason: &'static str,
}

impl Schema {
    /// The name, not quoted.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The channel that the doorbell notifies and an idle relay listens on.
    #[must_use]
    pub fn bell_channel(&self) -> String {
        format!("{}_bell", self.0)
    }

    /// The channel on which a relay says that it has let a lock go, or that it comes or leaves.
    #[must_use]
    pub fn free_channel(&self) -> String {
        format!("{}_free", self.0)
    }

    /// The SQL text with this schema's name, quoted, in place of `outbox` in `outbox.name` and
    /// `SCHEMA outbox`. Longer identifiers (`my_outbox.x`, `outbox_relay.keeper`) stay as they are.
    #[must_use]
    pub fn sql(&self, text: &str) -> String {
        if self.0 == DEFAULT_SCHEMA {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len() + 64);
        let mut rest = text;
        while let Some(at) = rest.find(DEFAULT_SCHEMA) {
            let (before, after) = (&rest[..at], &rest[at + DEFAULT_SCHEMA.len()..]);
            out.push_str(before);
            if is_schema_name(&out, after) {
                out.push('"');
                out.push_str(&self.0);
                out.push('"');
            } else {
                out.push_str(DEFAULT_SCHEMA);
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

/// Whether the word `outbox` between these two pieces of SQL is the schema's name.
fn is_schema_name(before: &str, after: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '"');
    if before.ends_with(in_word) {
        return false;
    }
    let qualifies = after
        .strip_prefix('.')
        .is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_'));
    qualifies || (before.ends_with("SCHEMA ") && !after.starts_with(in_word))
}

impl Default for Schema {
    fn default() -> Self {
        Self(DEFAULT_SCHEMA.to_owned())
    }
}

impl FromStr for Schema {
    type Err = SchemaNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| Err(SchemaNameError { name: name.to_owned(), reason });
        let mut chars = name.chars();
        if !chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
            || !chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            return refuse("is not made of a-z, 0-9 and _, beginning with a letter or _");
        }
        if name.len() > SCHEMA_BYTES_MAX {
            return refuse("is longer than 58 bytes");
        }
        if name.starts_with("pg_") || name == "information_schema" {
            return refuse("belongs to PostgreSQL");
        }
        // Before PostgreSQL 15 everybody may create functions there, also overloads of publish().
        if name == "public" {
            return refuse("is shared with others: give the outbox a schema of its own");
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> String {
        "orders_box".parse::<Schema>().unwrap().sql(text)
    }

    #[test]
    fn the_configured_name_stands_where_a_name_is_qualified() {
        assert_eq!(
            rewritten("SELECT outbox.publish('t') FROM outbox.message, (outbox.meta)"),
            r#"SELECT "orders_box".publish('t') FROM "orders_box".message, ("orders_box".meta)"#
        );
        assert_eq!(rewritten("'outbox.message'::regclass"), r#"'"orders_box".message'::regclass"#);
        assert_eq!(rewritten("CREATE SCHEMA outbox;"), r#"CREATE SCHEMA "orders_box";"#);
        assert_eq!(rewritten("ON SCHEMA outbox TO x"), r#"ON SCHEMA "orders_box" TO x"#);
    }

    #[test]
    fn other_words_stay() {
        for text in [
            "SET LOCAL outbox_relay.keeper = 'on'",
            "my_outbox.message",
            "other.outbox.message",
            "SELECT from the outbox.",
            "`outbox-relay prune`",
            "x-outbox-id",
            "SCHEMA outbox_old",
            "SCHEMA outbox.\"x\"",
            "an outbox",
            "",
        ] {
            assert_eq!(rewritten(text), text);
        }
    }

    #[test]
    fn the_default_name_changes_nothing() {
        let text = "SELECT outbox.publish('t')";
        assert_eq!(Schema::default().sql(text), text);
    }

    #[test]
    fn a_name_that_would_need_escaping_or_is_taken_is_refused() {
        for name in [
            "",
            "Outbox",
            "1box",
            "out-box",
            "out box",
            "a\"b",
            "a'b",
            "ö",
            "pg_box",
            "public",
            "information_schema",
            &"x".repeat(59),
        ] {
            assert!(name.parse::<Schema>().is_err(), "{name:?}");
        }
        for name in ["outbox", "_o", "order2_box", &"x".repeat(58)] {
            assert_eq!(name.parse::<Schema>().unwrap().name(), name);
        }
        assert_eq!(
            "Out".parse::<Schema>().unwrap_err().to_string(),
            "schema name \"Out\" is not made of a-z, 0-9 and _, beginning with a letter or _"
        );
    }
}
