//! The migrations as one plain SQL script, for people who apply SQL by their own means.

use std::fmt::Write as _;
use std::time::Duration;

use super::Schema;
use super::migrate::prologue;
use super::migration::{MIGRATIONS, Migration, newest_version};

/// Everything after version `after` (0 = from nothing) as SQL, in one transaction, with the rows
/// of `outbox.inbox_migration`: a later [`migrate`](super::migrate()) finds its own record and applies
/// nothing again.
#[must_use]
pub fn print(schema: &Schema, after: i32, lock_timeout: Duration) -> String {
    let last = newest_version();
    let what = match after {
        after if after < last => format!("versions {} to {last}", after + 1),
        _ => format!("nothing after version {last}"),
    };
    let mut out = format!(
        "-- The inbox in schema {schema}, {what}, as one transaction.\n\
         --   psql -v ON_ERROR_STOP=1 -f this-file\n\
         -- A tool that opens a transaction itself does not want the first and the last statement.\n\
         -- PostgreSQL 14 or newer.\n\n\
         BEGIN;\n\
         {prologue}\n",
        prologue = prologue(schema, lock_timeout),
    );
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > after) {
        print_migration(&mut out, schema, migration);
    }
    out.push_str("COMMIT;\n");
    out
}

fn print_migration(out: &mut String, schema: &Schema, migration: &Migration) {
    let Migration { version, name, sql } = migration;
    let record = schema.sql("INSERT INTO outbox.inbox_migration (version, name, checksum)");
    write!(
        out,
        "-- schema/inbox/{version:04}_{name}.sql\n\n{sql}\n{record}\nVALUES ({version}, '{name}', '{checksum}');\n\n",
        sql = schema.sql(sql),
        checksum = migration.checksum(),
    )
    .expect("a String takes any text");
}
