//! A target's ledger row: made at start-up, listed by `target list`, ended by `target remove`, and what
//! `target move` and `target rename` change of it.

mod list;
mod relocate;
mod remove;
mod rename;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, GenericClient, Transaction};
use uuid::Uuid;

pub use list::{Listed, list};
pub use relocate::{Moved, relocate};
pub use remove::{Removed, remove};
pub use rename::{Renamed, rename};

use crate::admin::AdminError;
use crate::admin::backend;
use crate::broker::Broker;
use crate::config::Start;
use crate::keeper::floor;
use crate::range::RangeSet;
use crate::schema::Schema;

/// The ledger row of a target, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// Where the row version lies, as text: `(block,offset)`.
    pub ctid: String,
    /// Changes when somebody else than the pipeline rewrote the ledger.
    pub epoch: Uuid,
    /// The ids that are settled; those in open holes are among them.
    pub settled: RangeSet,
    /// Where the settled messages went; `None`: not known yet.
    pub broker: Option<Broker>,
    /// The target is new: this call made the row.
    pub created: bool,
}

const READ: &str = "
SELECT ctid::text, epoch, settled::text, broker_kind, broker_place
FROM outbox.ledger WHERE target = $1";

// [1, floor): what lies below the floor is gone, and was never this target's.
const CREATE_EARLIEST: &str = "
INSERT INTO outbox.ledger (target, settled)
SELECT $1, int8multirange(int8range(1, floor)) FROM outbox.meta";

// Everything *visible* is settled, no more: an id between two visible rows may belong to a
// transaction that commits later, whose row is not older than the target. Such gaps become open holes,
// which the pipeline retires or serves as it does with any other (many ranges to a row, for a table
// full of rollbacks). One statement, so rows, gaps and the ledger come from one snapshot.
const CREATE_NOW: &str = "
WITH top AS (
    SELECT floor, greatest(floor, coalesce((SELECT max(id) FROM outbox.message), 0) + 1) AS next
    FROM outbox.meta
), row_before AS (
    SELECT message.id, lag(message.id, 1, top.floor - 1) OVER (ORDER BY message.id) AS before
    FROM top, outbox.message
    WHERE message.id >= top.floor
), gap AS (
    SELECT int8range(before + 1, id) AS ids, (row_number() OVER (ORDER BY id)) / 1000 AS part
    FROM row_before
    WHERE id > before + 1
), hole AS (
    INSERT INTO outbox.hole (target, ranges)
    SELECT $1, range_agg(ids) FROM gap GROUP BY part
)
INSERT INTO outbox.ledger (target, settled)
SELECT $1, int8multirange(int8range(1, next)) FROM top";

/// The target's ledger row; makes it when the target is new, under the lock `@floor`, so that the
/// floor it begins at cannot move meanwhile.
///
/// Cancel safety: dropping the future leaves the row made or not made, never half.
///
/// # Errors
/// The database's; [`AdminError::Busy`] if `@floor` was not free within `lock_timeout`.
pub async fn ensure(
    client: &mut Client,
    schema: &Schema,
    target: &str,
    start: Start,
) -> Result<LedgerRow, AdminError> {
    if let Some(row) = read(client, schema, target).await? {
        return Ok(row);
    }
    let transaction = floor::hold(client, schema).await?;
    // Another relay may have made it while this one waited for the lock.
    if let Some(row) = read(&transaction, schema, target).await? {
        return Ok(row);
    }
    let create = match start {
        Start::Earliest => CREATE_EARLIEST,
        Start::Now => CREATE_NOW,
    };
    transaction.execute(&schema.sql(create), &[&target]).await?;
    let row = read(&transaction, schema, target).await?;
    transaction.commit().await?;
    let row = row.expect("the row was inserted by this transaction");
    Ok(LedgerRow { created: true, ..row })
}

/// The target's ledger row, if there is one.
///
/// # Errors
/// The database's.
pub async fn read(
    client: &impl GenericClient,
    schema: &Schema,
    target: &str,
) -> Result<Option<LedgerRow>, Error> {
    let text = schema.sql(READ);
    let Some(row) = client.query_typed_opt(&text, &[(&target, Type::TEXT)]).await? else {
        return Ok(None);
    };
    let settled: String = row.try_get("settled")?;
    Ok(Some(LedgerRow {
        ctid: row.try_get("ctid")?,
        epoch: row.try_get("epoch")?,
        settled: settled.parse().expect("a CHECK bounds the ledger to message ids"),
        broker: Broker::noted(row.try_get("broker_kind")?, row.try_get("broker_place")?),
        created: false,
    }))
}

/// Takes the target's lease for this transaction, so that no relay works on it or begins to.
///
/// The key is the one that a relay locks for its session: the two conflict.
pub(super) async fn claim(
    transaction: &Transaction<'_>,
    schema: &Schema,
    target: &str,
) -> Result<LedgerRow, AdminError> {
    let Some(ledger) = read(transaction, schema, target).await? else {
        return Err(unknown(transaction, schema, target).await?);
    };
    lock(transaction, schema, target).await?;
    Ok(ledger)
}

/// Takes the lease of a name, whether or not there is such a target.
async fn lock(
    transaction: &Transaction<'_>,
    schema: &Schema,
    target: &str,
) -> Result<(), AdminError> {
    let lock = schema.sql("SELECT pg_try_advisory_xact_lock(k1, k2) FROM outbox.lock_key($1)");
    if transaction.query_one(&lock, &[&target]).await?.try_get(0)? {
        return Ok(());
    }
    // The holder may have gone since.
    let holder = backend::lock_holder(transaction, schema, target).await?;
    Err(AdminError::Leased { target: target.to_owned(), holder })
}

/// Whether a target can be called like that (a CHECK of the ledger says the same).
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && name.len() <= 63
}

/// # Errors
/// [`AdminError::UnknownTarget`]: nobody would serve a row that is set aside for it.
pub(super) async fn expect(
    transaction: &Transaction<'_>,
    schema: &Schema,
    target: &str,
) -> Result<(), AdminError> {
    let known = schema.sql("SELECT EXISTS (SELECT FROM outbox.ledger WHERE target = $1)");
    if transaction.query_one(&known, &[&target]).await?.try_get(0)? {
        return Ok(());
    }
    Err(unknown(transaction, schema, target).await?)
}

pub(super) async fn unknown(
    client: &impl GenericClient,
    schema: &Schema,
    target: &str,
) -> Result<AdminError, Error> {
    let names = "SELECT target FROM outbox.ledger ORDER BY target";
    let rows = client.query(&schema.sql(names), &[]).await?;
    let names: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(unknown_among(target, &names))
}

fn unknown_among(target: &str, names: &[String]) -> AdminError {
    let hint = match names {
        [] => "no target has a ledger yet; `outbox-relay run` makes it".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    };
    AdminError::UnknownTarget { name: target.to_owned(), hint }
}

// A target that was removed may have left dead messages, which are there to be looked at.
const NAMES: &str = "
SELECT target FROM outbox.ledger
UNION SELECT unnest($1::text[])
UNION SELECT $2 WHERE EXISTS (SELECT FROM outbox.dead WHERE target = $2)
ORDER BY target";

/// For what only looks: a name that stands in the outbox or in the configuration.
///
/// # Errors
/// [`AdminError::UnknownTarget`], with the names there are; the database's.
pub async fn expect_any(
    client: &impl GenericClient,
    schema: &Schema,
    target: &str,
    configured: &[&str],
) -> Result<(), AdminError> {
    let rows = client.query(&schema.sql(NAMES), &[&configured, &target]).await?;
    let names: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    match names.iter().any(|name| name == target) {
        true => Ok(()),
        false => Err(unknown_among(target, &names)),
    }
}
