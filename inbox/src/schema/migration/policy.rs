//! Row level security on tables that a migration has just made.
//!
//! Some databases have an event trigger that switches it on for every new table. Without a policy it
//! hides every row from every role but the owner: no writer can insert, and no reader sees anything.
//! These tables are protected by grants, so it is switched off again, and the report says so.

use tokio_postgres::{Error, Transaction};

use super::{MigrateError, Migration, MigrationSet};
use crate::schema::Schema;

/// Of these tables, those that are under row level security.
const SECURED: &str = "
SELECT relname::text FROM pg_catalog.pg_class
JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = $1 AND relname = ANY ($2) AND (relrowsecurity OR relforcerowsecurity)
ORDER BY relname";

impl Migration {
    /// The tables that it makes.
    fn tables(&self) -> impl Iterator<Item = &'static str> {
        let sql: &'static str = self.sql;
        sql.lines().filter_map(|line| {
            let rest = line.strip_prefix("CREATE TABLE outbox.")?;
            rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()
        })
    }

    /// Statements that switch row level security off for what it makes, for a script.
    pub(super) fn unsecure(&self, schema: &Schema) -> String {
        self.tables().map(|table| unsecure(schema, table) + ";\n").collect()
    }
}

impl MigrationSet {
    /// Switches row level security off for the tables that `migration` has made in this transaction;
    /// which of them had it.
    pub(super) async fn unsecure(
        &'static self,
        transaction: &Transaction<'_>,
        schema: &Schema,
        migration: &Migration,
    ) -> Result<Vec<String>, MigrateError> {
        let failed =
            |error| MigrateError::database("looking for row level security on new tables", error);
        let tables: Vec<&str> = migration.tables().collect();
        let found = secured(transaction, schema, &tables).await.map_err(failed)?;
        for table in &found {
            transaction.batch_execute(&unsecure(schema, table)).await.map_err(failed)?;
        }
        let still = secured(transaction, schema, &tables).await.map_err(failed)?;
        if still.is_empty() {
            return Ok(found);
        }
        Err(MigrateError::Secured { set: self, schema: schema.name().to_owned(), tables: still })
    }
}

async fn secured(
    transaction: &Transaction<'_>,
    schema: &Schema,
    tables: &[&str],
) -> Result<Vec<String>, Error> {
    let rows = transaction.query(SECURED, &[&schema.name(), &tables]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn unsecure(schema: &Schema, table: &str) -> String {
    schema.sql(&format!(
        "ALTER TABLE outbox.{table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_a_migration_are_read_from_its_text() {
        let sql = "-- CREATE TABLE outbox.comment (\nCREATE TABLE outbox.a (\n  x int\n);\n\
                   CREATE TABLE outbox.b_c(\n);\nSELECT 'CREATE TABLE outbox.d';";
        let migration = Migration { version: 1, name: "test", sql };
        assert_eq!(migration.tables().collect::<Vec<_>>(), ["a", "b_c"]);
    }
}
