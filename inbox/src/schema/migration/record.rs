//! The record of what was applied: the rows of a table, and the same in the comment of that table.
//!
//! A dump of the schema alone (`pg_dump --schema-only`, or one that leaves the data of these tables
//! out) has the tables and no rows. It keeps comments, so the comment is what the rows are restored
//! from. Without that the next `migrate` would take the database for an empty one.

use std::fmt::Write as _;

use tokio_postgres::Transaction;

use super::{MigrateError, MigrationSet, Record};
use crate::schema::Schema;

const HAS_RECORDS: &str = "SELECT to_regclass('{records}') IS NOT NULL";

const RECORDS: &str = "SELECT version, name, checksum FROM {records} ORDER BY version";

const COMMENT: &str = "SELECT coalesce(obj_description(to_regclass('{records}'), 'pg_class'), '')";

const INSERT: &str = "INSERT INTO {records} (version, name, checksum) VALUES ($1, $2, $3)";

/// What stands before the first record in the comment.
const COMMENT_BEGIN: &str =
    "Applied migrations, for the case that this table is restored without its rows:";

impl MigrationSet {
    /// Whether the record table is there.
    pub(super) async fn has_records(
        &self,
        client: &impl tokio_postgres::GenericClient,
        schema: &Schema,
    ) -> Result<bool, tokio_postgres::Error> {
        client.query_one(&self.sql(schema, HAS_RECORDS), &[]).await?.try_get(0)
    }

    /// What was applied, ascending by version. Second, how many of these records were lost and have
    /// been written again from the comment.
    pub(super) async fn records(
        &'static self,
        transaction: &Transaction<'_>,
        schema: &Schema,
    ) -> Result<(Vec<Record>, usize), MigrateError> {
        let failed = |error| MigrateError::database("reading what was applied", error);
        if !self.has_records(transaction, schema).await.map_err(failed)? {
            return Ok((Vec::new(), 0));
        }
        let rows = transaction.query(&self.sql(schema, RECORDS), &[]).await.map_err(failed)?;
        if !rows.is_empty() {
            let record = |row: &tokio_postgres::Row| {
                Ok(Record {
                    version: row.try_get(0)?,
                    name: row.try_get(1)?,
                    checksum: row.try_get(2)?,
                })
            };
            let records = rows.iter().map(record).collect::<Result<_, _>>().map_err(failed)?;
            return Ok((records, 0));
        }
        let row = transaction.query_one(&self.sql(schema, COMMENT), &[]).await.map_err(failed)?;
        let Some(records) = parse(row.try_get(0).map_err(failed)?) else {
            return Err(MigrateError::Unrecorded { set: self, schema: schema.name().to_owned() });
        };
        for record in &records {
            self.insert(transaction, schema, record).await.map_err(failed)?;
        }
        let restored = records.len();
        Ok((records, restored))
    }

    /// Writes that a migration was applied after `records`: the row, and the comment.
    pub(super) async fn recorded(
        &self,
        transaction: &Transaction<'_>,
        schema: &Schema,
        records: &[Record],
    ) -> Result<(), tokio_postgres::Error> {
        if let Some(last) = records.last() {
            self.insert(transaction, schema, last).await?;
        }
        transaction.batch_execute(&self.comment(schema, records)).await
    }

    async fn insert(
        &self,
        transaction: &Transaction<'_>,
        schema: &Schema,
        Record { version, name, checksum }: &Record,
    ) -> Result<(), tokio_postgres::Error> {
        transaction.execute(&self.sql(schema, INSERT), &[version, name, checksum]).await?;
        Ok(())
    }

    /// The statement that writes the comment. Names and checksums hold no quote.
    pub(super) fn comment(&self, schema: &Schema, records: &[Record]) -> String {
        let mut text = self.sql(schema, "COMMENT ON TABLE {records} IS '");
        text.push_str(COMMENT_BEGIN);
        for Record { version, name, checksum } in records {
            // Writing to a String does not fail.
            let _ = write!(text, " {version} {name} {checksum};");
        }
        text.push('\'');
        text
    }
}

/// The records of a comment; `None` if there is none in it.
fn parse(comment: &str) -> Option<Vec<Record>> {
    let records = comment.strip_prefix(COMMENT_BEGIN)?.trim().trim_end_matches(';');
    let record = |text: &str| {
        let mut words = text.split_whitespace();
        let record = Record {
            version: words.next()?.parse().ok()?,
            name: words.next()?.to_owned(),
            checksum: words.next()?.to_owned(),
        };
        words.next().is_none().then_some(record)
    };
    records.split(';').map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::inbox::INBOX;

    #[test]
    fn a_comment_says_what_was_applied() {
        let records: Vec<_> =
            INBOX.migrations.iter().map(super::super::Migration::record).collect();
        let statement = INBOX.comment(&Schema::default(), &records);
        let (_, comment) = statement.split_once(" IS '").unwrap();
        assert_eq!(parse(comment.trim_end_matches('\'')).unwrap(), records);
    }

    #[test]
    fn a_comment_that_says_nothing_is_no_record() {
        for comment in ["", "Applied migrations", COMMENT_BEGIN, &format!("{COMMENT_BEGIN} 1 meta")]
        {
            assert_eq!(parse(comment), None, "{comment:?}");
        }
    }
}
