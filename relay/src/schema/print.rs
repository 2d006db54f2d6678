//! The migrations as one plain SQL script, for people who apply SQL by their own means.

use std::fmt::Write as _;

use super::doorbell::Doorbell;
use super::migrate::{Options, prologue};
use super::migration::{MIGRATIONS, Migration, newest_version};
use super::{DEFAULT_SCHEMA, Schema};

/// Everything after version `after` (0 = from nothing) as SQL, in one transaction, with the rows
/// of `outbox.migration`: a later `migrate` finds its own record and applies nothing again.
#[must_use]
pub fn print(schema: &Schema, after: i32, options: &Options) -> String {
    let last = newest_version();
    let what = match after {
        after if after < last => format!("versions {} to {last}", after + 1),
        _ => format!("nothing after version {last}"),
    };
    let mut out = format!(
        "-- The outbox in schema {schema}, {what}, as one transaction.\n\
         --   psql -v ON_ERROR_STOP=1 -f this-file\n\
         -- A tool that opens a transaction itself does not want the first and the last statement.\n\
         -- PostgreSQL 14.1 or newer; psql 14 or newer.\n\n\
         BEGIN;\n\
         {prologue}\n",
        prologue = prologue(schema, options.lock_timeout),
    );
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > after) {
        print_migration(&mut out, schema, migration);
    }
    let mut call = |function: &str, argument: Option<&str>| {
        let text = schema.sql(&format!("SELECT outbox.{function}"));
        let argument = argument.map(literal).unwrap_or_default();
        writeln!(out, "{text}({argument});").expect("a String takes any text");
    };
    call("install_doorbell", options.doorbell.map(Doorbell::as_str));
    for role in &options.grant_writer {
        call("grant_writer", Some(&identifier(role)));
    }
    for role in &options.grant_relay {
        call("grant_relay", Some(&identifier(role)));
    }
    out.push_str("COMMIT;\n");
    out
}

fn print_migration(out: &mut String, schema: &Schema, migration: &Migration) {
    let Migration { version, name, sql } = migration;
    let record =
        schema.sql(&format!("INSERT INTO {DEFAULT_SCHEMA}.migration (version, name, checksum)"));
    write!(
        out,
        "-- schema/{version:04}_{name}.sql\n\n{sql}\n{record}\nVALUES ({version}, '{name}', '{checksum}');\n\n",
        sql = schema.sql(sql),
        checksum = migration.checksum(),
    )
    .expect("a String takes any text");
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
