//! Parked destinations: exchanges, routing keys and topics that the broker does not have, or does not
//! open to the relay; and the rows that wait for each.

use serde::Serialize;
use time::OffsetDateTime;
use tokio_postgres::{Client, Error, GenericClient, Row, Transaction};
use uuid::Uuid;

use crate::admin::{AdminError, end, target};
use crate::decision::{self, Decided, Decision};
use crate::keeper::{SCAN_SETTINGS, floor};
use crate::schema::Schema;

/// Rows that one transaction makes due.
const PIECE_ROWS: i64 = 10_000;

/// A destination, and what waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// For which target.
    pub target: String,
    /// As the relay names it.
    pub destination: String,
    /// Rows that wait for it; those that wait behind them in their keys are not among them.
    pub rows: i64,
    /// Since when the oldest does.
    #[serde(with = "time::serde::rfc3339")]
    pub oldest: OffsetDateTime,
    /// When it is tried again; `None`: a row is on its way there.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_at: Option<OffsetDateTime>,
    /// What the broker said of one of them.
    pub reason: Option<String>,
}

/// What a release did, or (dry run) would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Released {
    /// Rows that are due now.
    pub rows: u64,
}

// The reason is the broker's: that of a row which was set aside unsent (flow/outcome.rs) says nothing.
const LIST: &str = "
SELECT target, destination, count(*) AS rows, min(created_at) AS oldest,
       min(next_at) FILTER (WHERE next_at < 'infinity') AS next_at,
       coalesce(
           min(reason) FILTER (WHERE next_at < 'infinity'),
           min(reason) FILTER (WHERE reason <> 'its destination is parked')
       ) AS reason
FROM outbox.retry
WHERE target = $1 AND class = 'parked' AND destination IS NOT NULL
GROUP BY target, destination
ORDER BY rows DESC, destination LIMIT $2";

/// The parked destinations of one target, those with the most rows first.
///
/// # Errors
/// The database's.
pub async fn list(
    client: &impl GenericClient,
    schema: &Schema,
    target: &str,
    destinations_max: i64,
) -> Result<Vec<Destination>, Error> {
    let rows = client.query(&schema.sql(LIST), &[&target, &destinations_max]).await?;
    rows.iter().map(destination).collect()
}

fn destination(row: &Row) -> Result<Destination, Error> {
    Ok(Destination {
        target: row.try_get("target")?,
        destination: row.try_get("destination")?,
        rows: row.try_get("rows")?,
        oldest: row.try_get("oldest")?,
        next_at: row.try_get("next_at")?,
        reason: row.try_get("reason")?,
    })
}

// Lowest first: they have waited longest.
const RELEASE: &str = "
UPDATE outbox.retry SET next_at = now()
WHERE target = $1 AND class = 'parked' AND next_at > now() AND id = ANY (ARRAY(
    SELECT id FROM outbox.retry
    WHERE target = $1 AND destination = $2 AND class = 'parked' AND next_at > now() AND id > $3
    ORDER BY id LIMIT $4
))
RETURNING id";

/// Makes every row that waits for the destination due now. One of them tries it; while it is still
/// refused, the others are set aside again unsent.
///
/// With `dry_run` everything is done, counted and rolled back.
///
/// # Errors
/// [`AdminError::UnknownTarget`], [`AdminError::Busy`], the database's; with
/// [`AdminError::Partly`] around it once a piece is committed.
pub async fn release(
    client: &mut Client,
    schema: &Schema,
    target: &str,
    destination: &str,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<Released, AdminError> {
    let (command_id, mut rows, mut after) = (Uuid::now_v7(), 0, 0);
    loop {
        let piece = async {
            let transaction = floor::hold(client, schema).await?;
            target::expect(&transaction, schema, target).await?;
            let ids = make_due(&transaction, schema, target, destination, after).await?;
            let decided = Decided {
                command_id,
                command: "hold release",
                target: Some(target),
                filter: &serde_json::json!({ "destination": destination }),
                rows: ids.len() as u64,
                ids: decision::id_set(&ids),
                message_ids: None,
            };
            decision::record(&transaction, schema, decided, decision).await?;
            end(transaction, dry_run).await?;
            Ok::<_, AdminError>(ids)
        };
        let ids = match piece.await {
            Ok(ids) => ids,
            Err(source) if rows > 0 && !dry_run => {
                let done = format!("{rows} rows were made due");
                let hint = "run it again".to_owned();
                return Err(AdminError::Partly { done, hint, source: Box::new(source) });
            }
            Err(error) => return Err(error),
        };
        rows += ids.len() as u64;
        match ids.iter().max() {
            Some(&last) => after = last,
            None => return Ok(Released { rows }),
        }
    }
}

async fn make_due(
    transaction: &Transaction<'_>,
    schema: &Schema,
    target: &str,
    destination: &str,
    after: i64,
) -> Result<Vec<i64>, Error> {
    transaction.batch_execute(SCAN_SETTINGS).await?;
    let text = schema.sql(RELEASE);
    let rows = transaction.query(&text, &[&target, &destination, &after, &PIECE_ROWS]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
