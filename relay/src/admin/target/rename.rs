//! `target rename`: gives a target another name, and its progress with it.

use serde::Serialize;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::{claim, is_name, lock};
use crate::admin::{AdminError, end};
use crate::decision::{self, Decided, Decision};
use crate::keeper::floor;
use crate::range::RangeSet;
use crate::schema::Schema;

/// What `target rename` has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Renamed {
    /// Rows that bear the new name now, the ledger among them.
    pub rows: u64,
}

/// What is asked for, as it is recorded.
#[derive(Serialize)]
struct Filter<'a> {
    from: &'a str,
    to: &'a str,
}

// Every table that says whose a row is. The audit stays as it was written.
const TABLES: &str = "
SELECT quote_ident(relname)
FROM pg_catalog.pg_attribute
JOIN pg_catalog.pg_class ON pg_class.oid = attrelid
JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = $1 AND attname = 'target' AND NOT attisdropped AND relkind = 'r'
  AND relname <> 'decision'
ORDER BY relname";

/// Renames the target in every table. Its fence at the broker gets another name as well, so no relay
/// may work on it.
///
/// With `dry_run` everything is done and rolled back.
///
/// # Errors
/// [`AdminError::Leased`] while a relay works on either name, [`AdminError::UnknownTarget`],
/// [`AdminError::NameTaken`], [`AdminError::NotAName`], the database's.
pub async fn rename(
    client: &mut Client,
    schema: &Schema,
    from: &str,
    to: &str,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<Renamed, AdminError> {
    if !is_name(to) {
        return Err(AdminError::NotAName { name: to.to_owned() });
    }
    let transaction = floor::hold(client, schema).await?;
    claim(&transaction, schema, from).await?;
    lock(&transaction, schema, to).await?;
    let tables = transaction.query(TABLES, &[&schema.name()]).await?;
    let tables: Vec<String> = tables.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    for table in &tables {
        if has_rows(&transaction, schema, table, to).await? {
            return Err(AdminError::NameTaken { name: to.to_owned(), table: table.clone() });
        }
    }
    let mut rows = 0;
    for table in &tables {
        let text = format!("UPDATE outbox.{table} SET target = $2 WHERE target = $1");
        rows += transaction.execute(&schema.sql(&text), &[&from, &to]).await?;
    }
    let decided = Decided {
        command_id: Uuid::now_v7(),
        command: "target rename",
        target: Some(to),
        filter: &Filter { from, to },
        rows: 0,
        ids: RangeSet::new(),
        message_ids: None,
    };
    decision::record_always(&transaction, schema, decided, decision).await?;
    end(transaction, dry_run).await?;
    Ok(Renamed { rows })
}

async fn has_rows(
    transaction: &Transaction<'_>,
    schema: &Schema,
    table: &str,
    target: &str,
) -> Result<bool, AdminError> {
    let text = format!("SELECT EXISTS (SELECT FROM outbox.{table} WHERE target = $1)");
    Ok(transaction.query_one(&schema.sql(&text), &[&target]).await?.try_get(0)?)
}
