//! Numbered files of SQL that bring a database to a version, whoever ships them: the inbox here, and the
//! outbox in the relay.

mod error;
mod policy;
mod print;
mod record;
mod run;

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

pub use error::MigrateError;

use super::Schema;

/// Long enough for the writers' ordinary transactions to end, short enough that the writers
/// which queue behind the waiting migration do not notice.
pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// One file of a set.
#[derive(Debug)]
pub struct Migration {
    /// Its number.
    pub version: i32,
    /// Its noun, as in the file's name.
    pub name: &'static str,
    /// As shipped: with `outbox` for the schema's name.
    pub sql: &'static str,
}

/// The files of one product, and what its runner says of them.
#[derive(Debug)]
pub struct MigrationSet {
    /// The product, which is also the name of the lock: `outbox-inbox`.
    pub product: &'static str,
    /// What is installed, in messages: `inbox`.
    pub noun: &'static str,
    /// Where the files are, in the script that is printed: `schema/inbox`.
    pub folder: &'static str,
    /// The table of what was applied, without its schema.
    pub record_table: &'static str,
    /// The oldest server, as in `server_version_num`.
    pub server_version_min: i32,
    /// The same for people: `14.1`.
    pub server_version_min_text: &'static str,
    /// Ascending from 1 without a gap. A shipped file is never edited: append.
    pub migrations: &'static [Migration],
}

/// A migration that a run applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Its number.
    pub version: i32,
    /// Its noun, as in the file's name.
    pub name: &'static str,
}

/// What a run did, beside what the caller's last step returned.
#[derive(Debug)]
pub struct Ran<T> {
    /// What was applied, in order.
    pub applied: Vec<Applied>,
    /// Migrations whose tables were there and whose records were not (a restore of the schema alone):
    /// their records were written again.
    pub restored: usize,
    /// New tables that came with row level security, which was switched off (see
    /// [`write_notes`]).
    pub unsecured: Vec<String>,
    /// What the last step returned.
    pub finished: T,
}

/// A row of the table of what was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    version: i32,
    name: String,
    checksum: String,
}

impl Migration {
    /// SHA-256 of the shipped text, so that it does not depend on the configured name.
    fn checksum(&self) -> String {
        Sha256::digest(self.sql).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The row that says that it was applied.
    fn record(&self) -> Record {
        let &Self { version, name, .. } = self;
        Record { version, name: name.to_owned(), checksum: self.checksum() }
    }
}

impl MigrationSet {
    /// The version that a database has after all of them.
    #[must_use]
    pub fn newest_version(&self) -> i32 {
        self.migrations.last().map_or(0, |migration| migration.version)
    }

    /// The text with the record table in place of `{records}`, and the schema's name.
    fn sql(&self, schema: &Schema, text: &str) -> String {
        schema.sql(&text.replace("{records}", &format!("outbox.{}", self.record_table)))
    }

    /// What every transaction begins with: settings of its own, the lock, the schema.
    ///
    /// The search path holds nothing that somebody else could have put an object into.
    /// `CREATE SCHEMA IF NOT EXISTS` would demand the right to create one even where a DBA already did.
    fn prologue(&self, schema: &Schema, lock_timeout: Duration) -> String {
        let (quoted, product) = (format!("\"{schema}\""), self.product);
        format!(
            "SET LOCAL lock_timeout = {};
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
SELECT pg_advisory_xact_lock(hashtextextended('{product} migrate {schema}', 0));
DO $prologue$
BEGIN
    IF to_regnamespace('{quoted}') IS NULL THEN
        CREATE SCHEMA {quoted};
    END IF;
END
$prologue$;
",
            lock_timeout.as_millis()
        )
    }

    /// What is to be applied after these records (ascending by version), or why nothing may be.
    fn outstanding(
        &'static self,
        records: &[Record],
    ) -> Result<&'static [Migration], MigrateError> {
        let (set, newest) = (self, self.newest_version());
        let installed = records.last().map_or(0, |record| record.version);
        if installed > newest {
            return Err(MigrateError::TooNew { set, installed, newest });
        }
        for (index, migration) in self.migrations.iter().enumerate() {
            let &Migration { version, name, .. } = migration;
            match records.get(index) {
                None => return Ok(&self.migrations[index..]),
                Some(record) if record.version != version => {
                    return Err(MigrateError::Missing { set, version, installed });
                }
                Some(record) if record.checksum != migration.checksum() => {
                    return Err(MigrateError::Changed { set, version, name });
                }
                Some(_) => {}
            }
        }
        Ok(&[])
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "migration {} ({})", self.version, self.name)
    }
}

/// For people; programs take the JSON form.
impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "applied   {:04} {}", self.version, self.name)
    }
}

/// The lines of a report about what was found: lost records, and tables under row level security.
///
/// # Errors
/// The formatter's.
pub fn write_notes(
    out: &mut impl fmt::Write,
    restored: usize,
    unsecured: &[String],
) -> fmt::Result {
    if restored > 0 {
        writeln!(
            out,
            "restored  the records of {restored} migrations: the schema came without data"
        )?;
    }
    if !unsecured.is_empty() {
        writeln!(
            out,
            "policies  row level security had been switched on for new tables and was switched off \
             again: {}",
            unsecured.join(", ")
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::inbox::INBOX;

    fn records() -> Vec<Record> {
        let records = INBOX.migrations.iter();
        records.map(Migration::record).collect()
    }

    #[test]
    fn what_is_recorded_is_not_applied_again() {
        assert_eq!(INBOX.outstanding(&[]).unwrap().len(), INBOX.migrations.len());
        assert_eq!(INBOX.outstanding(&records()[..1]).unwrap()[0].version, 2);
        assert!(INBOX.outstanding(&records()).unwrap().is_empty());
    }

    #[test]
    fn a_history_that_is_not_ours_is_refused() {
        let mut newer = records();
        let version = INBOX.newest_version() + 1;
        newer.push(Record { version, name: "future".to_owned(), checksum: String::new() });
        assert!(matches!(INBOX.outstanding(&newer), Err(MigrateError::TooNew { .. })));

        let mut edited = records();
        edited[1].checksum = "0".repeat(64);
        let changed = INBOX.outstanding(&edited);
        assert!(matches!(changed, Err(MigrateError::Changed { version: 2, .. })));

        let mut gap = records();
        gap.remove(1);
        let missing = INBOX.outstanding(&gap);
        assert!(matches!(missing, Err(MigrateError::Missing { version: 2, .. })));
    }
}
