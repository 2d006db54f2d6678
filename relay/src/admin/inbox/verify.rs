//! Has any message had its effect twice? The application's own table is asked, by its own query.

use serde::Serialize;
use tokio_postgres::{Client, Error};

use crate::schema::Schema;

/// Ids that an answer names.
const NAMED_MAX: i64 = 20;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// Messages with an effect.
    pub messages: i64,
    /// Effects beyond the first one of each: it must be 0.
    pub duplicate_effects: i64,
    /// Of all effects.
    pub duplicate_rate: f64,
    /// Effects of messages that the inbox does not know: by another way, or forgotten since.
    pub unclaimed: i64,
    /// The first messages with more than one effect.
    pub named: Vec<String>,
}

/// Compares effects with claims. `query` gives two columns, message id and number of effects; it runs in
/// a transaction that can write nothing.
///
/// # Errors
/// The database's; a query of another form.
pub async fn verify(
    client: &mut Client,
    schema: &Schema,
    consumer: &str,
    query: &str,
) -> Result<Verified, Error> {
    let query = query.trim().trim_end_matches(';');
    let text = format!(
        "WITH effect (id, effects) AS (SELECT id::text, effects::int8 FROM ({query}) AS asked (id, effects))
         SELECT count(*), coalesce(sum(effects - 1) FILTER (WHERE effects > 1), 0)::int8, coalesce(sum(effects), 0)::int8,
             count(*) FILTER (WHERE NOT EXISTS (
                 SELECT FROM outbox.inbox AS i
                 WHERE i.bucket = outbox.inbox_bucket(effect.id) AND i.consumer = $1 AND i.message_id = effect.id)),
             (array_agg(id ORDER BY id) FILTER (WHERE effects > 1))[1:{NAMED_MAX}]
         FROM effect"
    );
    let transaction = client.build_transaction().read_only(true).start().await?;
    // The search path of these sessions is empty; the application's tables stand where they stand for it.
    transaction.batch_execute("SET LOCAL search_path = DEFAULT").await?;
    let row = transaction.query_one(&schema.sql(&text), &[&consumer]).await?;
    transaction.rollback().await?;
    let (duplicate_effects, effects): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    // Counts of rows: far below what a float holds exactly.
    #[allow(clippy::cast_precision_loss)]
    let duplicate_rate = duplicate_effects as f64 / effects.max(1) as f64;
    Ok(Verified {
        messages: row.try_get(0)?,
        duplicate_effects,
        duplicate_rate,
        unclaimed: row.try_get(3)?,
        named: row.try_get::<_, Option<Vec<String>>>(4)?.unwrap_or_default(),
    })
}
