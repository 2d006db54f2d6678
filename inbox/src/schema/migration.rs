//! The numbered files of `schema/inbox/`, embedded in the library, and what of them is still to be applied.

use sha2::{Digest, Sha256};

use super::migrate::MigrateError;

/// One file of `schema/inbox/`.
#[derive(Debug)]
pub(super) struct Migration {
    pub(super) version: i32,
    pub(super) name: &'static str,
    /// As shipped: with `outbox` for the schema's name.
    pub(super) sql: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal),* $(,)?) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../schema/inbox/000", $version, "_", $name, ".sql")),
        }),*]
    };
}

/// Ascending from 1 without a gap. A shipped file is never edited: append.
pub(super) const MIGRATIONS: &[Migration] = migrations![
    1 "inbox",
    2 "failure",
    3 "idempotency",
    4 "maintenance",
];

/// The version that this library needs, and migrates to.
#[must_use]
pub fn newest_version() -> i32 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

impl Migration {
    /// SHA-256 of the shipped text, so that it does not depend on the configured name.
    pub(super) fn checksum(&self) -> String {
        Sha256::digest(self.sql).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A row of `outbox.inbox_migration`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) version: i32,
    pub(super) checksum: String,
}

/// What is to be applied after these records (ascending by version), or why nothing may be.
pub(super) fn outstanding(records: &[Record]) -> Result<&'static [Migration], MigrateError> {
    let installed = records.last().map_or(0, |record| record.version);
    if installed > newest_version() {
        return Err(MigrateError::TooNew { installed, newest: newest_version() });
    }
    for (index, migration) in MIGRATIONS.iter().enumerate() {
        match records.get(index) {
            None => return Ok(&MIGRATIONS[index..]),
            Some(record) if record.version != migration.version => {
                return Err(MigrateError::Missing { version: migration.version, installed });
            }
            Some(record) if record.checksum != migration.checksum() => {
                return Err(MigrateError::Changed {
                    version: migration.version,
                    name: migration.name,
                });
            }
            Some(_) => {}
        }
    }
    Ok(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        MIGRATIONS.iter().map(|m| Record { version: m.version, checksum: m.checksum() }).collect()
    }

    #[test]
    fn versions_ascend_from_one_without_a_gap() {
        let versions: Vec<_> = MIGRATIONS.iter().map(|m| m.version).collect();
        let expected: Vec<_> = (1..=newest_version()).collect();
        assert_eq!(versions, expected);
    }

    #[test]
    fn what_is_recorded_is_not_applied_again() {
        assert_eq!(outstanding(&[]).unwrap().len(), MIGRATIONS.len());
        assert_eq!(outstanding(&records()[..1]).unwrap()[0].version, 2);
        assert!(outstanding(&records()).unwrap().is_empty());
    }

    #[test]
    fn a_history_that_is_not_ours_is_refused() {
        let mut newer = records();
        newer.push(Record { version: newest_version() + 1, checksum: String::new() });
        assert!(matches!(outstanding(&newer), Err(MigrateError::TooNew { .. })));

        let mut edited = records();
        edited[1].checksum = "0".repeat(64);
        assert!(matches!(outstanding(&edited), Err(MigrateError::Changed { version: 2, .. })));

        let mut gap = records();
        gap.remove(1);
        assert!(matches!(outstanding(&gap), Err(MigrateError::Missing { version: 2, .. })));
    }
}
