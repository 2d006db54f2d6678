//! The outbox's own migrations: the numbered files of `schema/`, embedded in the binary.

use outbox_inbox::schema::migration::{Migration, MigrationSet};
use tokio_postgres::Client;

use super::Schema;

macro_rules! migrations {
    ($($version:literal $name:literal),* $(,)?) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../schema/000", $version, "_", $name, ".sql")),
        }),*]
    };
}

pub(super) static OUTBOX: MigrationSet = MigrationSet {
    product: "outbox-relay",
    noun: "outbox",
    folder: "schema",
    record_table: "migration",
    // The first release whose multiranges are whole: 14.0 could lose index entries.
    server_version_min: 140_001,
    server_version_min_text: "14.1",
    migrations: migrations![
        1 "meta",
        2 "message",
        3 "guard",
        4 "ledger",
        5 "publish",
        6 "doorbell",
        7 "message_state",
        8 "grant",
    ],
};

/// The version that this binary needs, and migrates to.
#[must_use]
pub fn newest_version() -> i32 {
    OUTBOX.newest_version()
}

/// The version that is installed; `None` if there is no outbox in this schema.
///
/// # Errors
/// The database's, also when the role may not look into the schema.
pub async fn installed_version(
    client: &Client,
    schema: &Schema,
) -> Result<Option<i32>, tokio_postgres::Error> {
    OUTBOX.installed_version(client, schema).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_ascend_from_one_without_a_gap() {
        let versions: Vec<_> = OUTBOX.migrations.iter().map(|m| m.version).collect();
        assert_eq!(versions, (1..=newest_version()).collect::<Vec<_>>());
    }

    #[test]
    fn shipped_sql_is_ascii() {
        // A database of another encoding cannot hold every character, not even in a comment.
        for migration in OUTBOX.migrations {
            assert!(migration.sql.is_ascii(), "{}", migration.name);
        }
    }

    #[test]
    fn no_migration_destroys_anything() {
        for migration in OUTBOX.migrations {
            for line in migration.sql.lines().filter(|line| !line.trim_start().starts_with("--")) {
                let statement = line.trim_start().to_uppercase();
                for word in ["DROP ", "TRUNCATE ", "DELETE "] {
                    assert!(!statement.starts_with(word), "{}: {line}", migration.name);
                }
            }
        }
    }
}
