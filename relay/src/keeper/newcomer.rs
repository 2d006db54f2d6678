//! A configured target that has no ledger yet: nothing may be deleted before it has.
//!
//! Retention counts the ledgers there are. A target that is slow to start (the role's connection limit,
//! a lock that a predecessor still holds) would begin at a floor that has moved past rows it was owed.
//! This relay's targets are all it knows of: one that only another relay has configured, and that has
//! never run, is new to the outbox, and begins where retention stands.

use tokio_postgres::{Client, Error};

use crate::schema::Schema;

const NEWCOMER: &str = "
SELECT name FROM unnest($1::text[]) WITH ORDINALITY AS configured (name, n)
WHERE NOT EXISTS (SELECT FROM outbox.ledger WHERE target = name)
ORDER BY n LIMIT 1";

/// The first of these targets that has no ledger.
pub(super) async fn find(
    client: &Client,
    schema: &Schema,
    targets: &[String],
) -> Result<Option<String>, Error> {
    let row = client.query_opt(&schema.sql(NEWCOMER), &[&targets]).await?;
    row.map(|row| row.try_get(0)).transpose()
}
