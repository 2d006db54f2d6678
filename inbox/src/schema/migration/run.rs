//! The migration runner: brings a database to the newest version, one transaction a migration.
//!
//! It can be run at any time, by several processes at once, on a database that applications are
//! writing to: an advisory lock lets one at a time decide, and `lock_timeout` ends a wait for a
//! table lock, behind which every writer would queue.

use std::time::Duration;

use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::{Applied, MigrateError, Migration, MigrationSet, Ran, Record};
use crate::schema::Schema;

impl MigrationSet {
    /// Brings the database to the newest version; then runs `finish` in the last transaction, behind the same lock.
    ///
    /// Running it again changes nothing but what `finish` does. Not cancel-safe in its report, safe in its effects: a
    /// dropped future leaves whole migrations behind, and the next run goes on from there.
    ///
    /// # Errors
    /// See [`MigrateError`]; [`MigrateError::hint`] names the remedy.
    pub async fn run<T>(
        &'static self,
        client: &mut Client,
        schema: &Schema,
        lock_timeout: Duration,
        finish: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, MigrateError>,
    ) -> Result<Ran<T>, MigrateError> {
        self.check_server(client).await?;
        let (mut applied, mut restored, mut unsecured) = (Vec::new(), 0, Vec::new());
        loop {
            let transaction = self.begin(client, schema, lock_timeout).await?;
            // Read anew in each transaction: the lock was free between two of them.
            let (mut records, lost) = self.records(&transaction, schema).await?;
            restored += lost;
            let Some(migration) = self.outstanding(&records)?.first() else {
                let finished = finish(&transaction).await?;
                commit(transaction).await?;
                return Ok(Ran { applied, restored, unsecured, finished });
            };
            records.push(migration.record());
            let mut secured = self.apply(&transaction, schema, migration, &records).await?;
            commit(transaction).await?;
            unsecured.append(&mut secured);
            applied.push(Applied { version: migration.version, name: migration.name });
        }
    }

    /// The version that is installed; `None` if there is nothing of the set in this schema.
    ///
    /// # Errors
    /// The database's, also when the role may not look into the schema.
    pub async fn installed_version(
        &self,
        client: &Client,
        schema: &Schema,
    ) -> Result<Option<i32>, tokio_postgres::Error> {
        if !self.has_records(client, schema).await? {
            return Ok(None);
        }
        let text = self.sql(schema, "SELECT max(version) FROM {records}");
        client.query_one(&text, &[]).await?.try_get(0)
    }

    async fn check_server(&'static self, client: &Client) -> Result<(), MigrateError> {
        let failed = |error| MigrateError::database("looking at the server", error);
        let row = client
            .query_one(
                "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                        pg_is_in_recovery()",
                &[],
            )
            .await
            .map_err(failed)?;
        if row.try_get::<_, i32>(0).map_err(failed)? < self.server_version_min {
            let version = row.try_get(1).map_err(failed)?;
            return Err(MigrateError::ServerTooOld { set: self, version });
        }
        if row.try_get(2).map_err(failed)? {
            return Err(MigrateError::Standby);
        }
        Ok(())
    }

    /// READ COMMITTED whatever the database's default is: under a snapshot taken before the wait for
    /// the lock, the second of two runners would not see what the first applied.
    async fn begin<'a>(
        &self,
        client: &'a mut Client,
        schema: &Schema,
        lock_timeout: Duration,
    ) -> Result<Transaction<'a>, MigrateError> {
        let begun = async {
            let transaction =
                client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
            let transaction = transaction.read_only(false).start().await?;
            transaction.batch_execute(&self.prologue(schema, lock_timeout)).await?;
            Ok(transaction)
        };
        begun.await.map_err(|error| MigrateError::database("waiting for the migration lock", error))
    }

    /// Returns the tables that came with row level security.
    async fn apply(
        &'static self,
        transaction: &Transaction<'_>,
        schema: &Schema,
        migration: &Migration,
        records: &[Record],
    ) -> Result<Vec<String>, MigrateError> {
        let failed = |error| MigrateError::database(format!("applying {migration}"), error);
        transaction.batch_execute(&schema.sql(migration.sql)).await.map_err(failed)?;
        let secured = self.unsecure(transaction, schema, migration).await?;
        self.recorded(transaction, schema, records).await.map_err(failed)?;
        Ok(secured)
    }
}

async fn commit(transaction: Transaction<'_>) -> Result<(), MigrateError> {
    transaction.commit().await.map_err(|error| MigrateError::database("committing", error))
}
