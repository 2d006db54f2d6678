//! How many rows the keeper found that should not have been there: `meta.late_rows`.
//!
//! It counts `retry` rows of class `late` ever made, over all targets and restarts, since the rows
//! themselves go when they are delivered. It is a number for people and metrics; nothing depends on it.

use tokio_postgres::{Error, Transaction};

use crate::schema::Schema;

const ADD: &str = "UPDATE outbox.meta SET late_rows = late_rows + $1";

/// Counts `rows` more, in the transaction that made them.
pub(super) async fn add(
    transaction: &Transaction<'_>,
    schema: &Schema,
    rows: u64,
) -> Result<(), Error> {
    if rows == 0 {
        return Ok(());
    }
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    transaction.execute(&schema.sql(ADD), &[&rows]).await?;
    Ok(())
}
