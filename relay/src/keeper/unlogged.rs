//! Tables that a crash of the server would empty.
//!
//! An UNLOGGED table is faster, and its rows are lost with the server, committed or not. For an outbox
//! that is a lost message; for a ledger, everything is sent again.

use tokio_postgres::{Client, Error};

use crate::schema::Schema;

const UNLOGGED: &str = "
SELECT relname::text FROM pg_catalog.pg_class
JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = $1 AND relkind IN ('r', 'p') AND relpersistence = 'u'
ORDER BY relname";

/// Their names.
pub(super) async fn find(client: &Client, schema: &Schema) -> Result<Vec<String>, Error> {
    let rows = client.query(UNLOGGED, &[&schema.name()]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
