//! The migrations as one plain SQL script, for people who apply SQL by their own means.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Migration, MigrationSet};
use crate::schema::Schema;

impl MigrationSet {
    /// Everything after version `after` (0 = from nothing) as SQL, in one transaction that `last` ends, with the
    /// rows of the record table: a later [`run`](Self::run) finds its own record and applies nothing again.
    #[must_use]
    pub fn print(&self, schema: &Schema, after: i32, lock_timeout: Duration, last: &str) -> String {
        let newest = self.newest_version();
        let what = match after {
            after if after < newest => format!("versions {} to {newest}", after + 1),
            _ => format!("nothing after version {newest}"),
        };
        let mut out = format!(
            "-- The {noun} in schema {schema}, {what}, as one transaction.\n\
             --   psql -v ON_ERROR_STOP=1 -f this-file\n\
             -- A tool that opens a transaction itself does not want the first and the last statement.\n\
             -- PostgreSQL {server} or newer; psql 14 or newer.\n\n\
             BEGIN;\n\
             {prologue}\n",
            noun = self.noun,
            server = self.server_version_min_text,
            prologue = self.prologue(schema, lock_timeout),
        );
        for migration in self.migrations.iter().filter(|migration| migration.version > after) {
            self.print_migration(&mut out, schema, migration);
        }
        out.push_str(last);
        out.push_str("COMMIT;\n");
        out
    }

    fn print_migration(&self, out: &mut String, schema: &Schema, migration: &Migration) {
        let Migration { version, name, sql } = migration;
        let until = self.migrations.iter().filter(|applied| applied.version <= *version);
        let records: Vec<_> = until.map(Migration::record).collect();
        write!(
            out,
            "-- {folder}/{version:04}_{name}.sql\n\n{sql}\n{unsecure}{record}\nVALUES ({version}, '{name}', '{checksum}');\n{comment};\n\n",
            folder = self.folder,
            sql = schema.sql(sql),
            unsecure = migration.unsecure(schema),
            comment = self.comment(schema, &records),
            record = self.sql(schema, "INSERT INTO {records} (version, name, checksum)"),
            checksum = migration.checksum(),
        )
        .expect("a String takes any text");
    }
}
