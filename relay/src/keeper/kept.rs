//! Messages below the floor that a retry row needed: deleted when the last one has gone.

use tokio_postgres::{Client, Error};

use crate::keeper::floor;
use crate::schema::Schema;

/// What one piece did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Messages deleted.
    pub deleted: u64,
    /// Where the next piece begins; `None`: this was the last, begin anew at 0.
    pub next: Option<i64>,
}

// An id is free when every ledger has it, none in an open hole, and no target still needs it. Below the
// floor that is so, but for a target that was rebuilt: its ledger may begin below a kept message, which
// is then pending. Open holes below the floor come from the same, and are looked at only if there are any.
// Under @floor all three conditions stay true once they are: see retention. Without any ledger nothing
// is free.
const DELETE: &str = "
WITH piece AS MATERIALIZED (
    SELECT id FROM outbox.kept WHERE id >= $1 ORDER BY id LIMIT $2
), low_hole AS MATERIALIZED (
    SELECT ranges FROM outbox.hole, outbox.meta
    WHERE dead_at IS NULL AND lower(ranges) < floor
), free AS MATERIALIZED (
    SELECT id FROM piece
    WHERE EXISTS (SELECT FROM outbox.ledger)
      AND NOT EXISTS (SELECT FROM outbox.ledger WHERE NOT settled @> piece.id)
      AND NOT EXISTS (SELECT FROM low_hole WHERE ranges @> piece.id)
      AND NOT EXISTS (
          SELECT FROM outbox.ledger
          JOIN outbox.retry ON retry.target = ledger.target AND retry.id = piece.id
      )
      AND id <> ALL ($3::bigint[])
), deleted AS (
    DELETE FROM outbox.message USING free WHERE message.id = free.id RETURNING message.id
), released AS (
    DELETE FROM outbox.kept USING free WHERE kept.id = free.id
)
SELECT (SELECT count(*) FROM deleted) AS deleted,
       (SELECT count(*) FROM piece) AS looked_at,
       (SELECT max(id) FROM piece) AS last";

const NEXT: &str = "SELECT id FROM outbox.kept WHERE id >= $1 ORDER BY id LIMIT 1";

/// The first kept id from `from` on: all that a piece of one row looks at.
pub(super) async fn next_id(
    client: &Client,
    schema: &Schema,
    from: i64,
) -> Result<Option<i64>, Error> {
    let row = client.query_opt(&schema.sql(NEXT), &[&from]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Looks at the kept ids from `from` on, at most `rows_max`, and deletes what no target needs any more,
/// but for the ids in `spared`.
///
/// Cancel safety: dropping the future rolls the piece back.
///
/// # Errors
/// The database's; SQLSTATE 55P03 if `@floor` is held for longer than `lock_timeout`.
pub async fn piece(
    client: &mut Client,
    schema: &Schema,
    from: i64,
    rows_max: u64,
    spared: &[i64],
) -> Result<Piece, Error> {
    let transaction = floor::hold(client, schema).await?;
    transaction.batch_execute(super::DELETE_SETTINGS).await?;
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let row = transaction.query_one(&schema.sql(DELETE), &[&from, &rows_max, &spared]).await?;
    transaction.commit().await?;
    let last: Option<i64> = row.try_get("last")?;
    let whole = row.try_get::<_, i64>("looked_at")? < rows_max;
    Ok(Piece {
        deleted: super::count(&row, "deleted")?,
        next: last.filter(|_| !whole).map(|id| id + 1),
    })
}
