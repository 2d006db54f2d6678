//! Dead messages that are old enough to be removed, where the configuration says so.
//!
//! One that is requeued stays, and one that holds its key (`on_poison = "hold_key"`): the key is let go by
//! a person, not by time. Each piece is recorded in `decision` in its transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::decision::{self, Decided, Decision};
use crate::keeper::floor;
use crate::schema::Schema;

// By dead_by_age.
const DELETE: &str = "
WITH old AS MATERIALIZED (
    SELECT target, id FROM outbox.dead
    WHERE died_at <= now() - make_interval(secs => $1)
      AND NOT EXISTS (
          SELECT FROM outbox.retry WHERE retry.target = dead.target AND retry.id = dead.id
      )
      AND id <> ALL ($3::bigint[])
    ORDER BY died_at LIMIT $2
)
DELETE FROM outbox.dead USING old
WHERE dead.target = old.target AND dead.id = old.id
RETURNING dead.target, dead.id, dead.message_id";

const NEXT: &str = "
SELECT id FROM outbox.dead
WHERE died_at <= now() - make_interval(secs => $1)
  AND NOT EXISTS (
      SELECT FROM outbox.retry WHERE retry.target = dead.target AND retry.id = dead.id
  )
  AND id <> ALL ($2::bigint[])
ORDER BY died_at LIMIT 1";

/// The dead message that a piece of one row would remove.
pub(super) async fn next_id(
    client: &Client,
    schema: &Schema,
    age: Duration,
    spared: &[i64],
) -> Result<Option<i64>, Error> {
    let row = client.query_opt(&schema.sql(NEXT), &[&age.as_secs_f64(), &spared]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Removes at most `rows_max` dead messages of that age, of whatever target; how many.
///
/// Under `@floor`, so that nobody requeues them meanwhile. Cancel safety: dropping the future rolls it back.
///
/// # Errors
/// The database's; SQLSTATE 55P03 if `@floor` is held for longer than `lock_timeout`.
pub async fn piece(
    client: &mut Client,
    schema: &Schema,
    age: Duration,
    rows_max: u64,
    spared: &[i64],
) -> Result<u64, Error> {
    let transaction = floor::hold(client, schema).await?;
    transaction.batch_execute(super::SCAN_SETTINGS).await?;
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let parameters: [&(dyn ToSql + Sync); 3] = [&age.as_secs_f64(), &limit, &spared];
    let rows = transaction.query(&schema.sql(DELETE), &parameters).await?;
    let mut removed: BTreeMap<String, (Vec<i64>, Vec<Uuid>)> = BTreeMap::new();
    for row in &rows {
        let (ids, message_ids) = removed.entry(row.try_get("target")?).or_default();
        ids.push(row.try_get("id")?);
        message_ids.push(row.try_get("message_id")?);
    }
    let age = humantime::format_duration(age).to_string();
    let (filter, command_id) = (serde_json::json!({ "older_than": age }), Uuid::now_v7());
    for (target, (ids, message_ids)) in &removed {
        let decided = Decided {
            command_id,
            command: "retention",
            target: Some(target),
            filter: &filter,
            rows: ids.len() as u64,
            ids: decision::id_set(ids),
            message_ids: Some(message_ids),
        };
        let decision =
            Decision { by: Some("[retention] dead"), reason: Some("older than configured") };
        decision::record(&transaction, schema, decided, &decision).await?;
    }
    transaction.commit().await?;
    Ok(rows.len() as u64)
}
