//! Ids of a moved or copied outbox that its ledgers and its sequence disagree about.
//!
//! A restore may leave the sequence behind (`pg_dump --exclude-table-data='outbox.message*'` leaves its
//! value out). New rows then get ids that the ledgers count as settled, and nobody would ever send them.

use tokio_postgres::{Error, GenericClient};

use crate::schema::{Schema, identity};

// All that is settled was written before the mark that settled it, so what is younger than the last
// mark is another row under the same id.
const RELEASE: &str = "
WITH unsent AS MATERIALIZED (
    SELECT ledger.target, range_agg(int8range(message.id, message.id + 1)) AS ids, count(*) AS rows
    FROM outbox.ledger
    JOIN outbox.message
      ON message.id <@ ledger.settled AND message.created_at > ledger.marked_at
    GROUP BY ledger.target
), released AS (
    UPDATE outbox.ledger SET settled = ledger.settled - unsent.ids
    FROM unsent WHERE ledger.target = unsent.target
)
SELECT coalesce(sum(rows), 0)::bigint FROM unsent";

const BEHIND: &str = "
SELECT known, pg_get_serial_sequence('outbox.message', 'id')
FROM (SELECT greatest(
          (SELECT max(upper(settled)) - 1 FROM outbox.ledger),
          (SELECT max(upper(ranges)) - 1 FROM outbox.hole),
          (SELECT max(id) FROM outbox.retry),
          (SELECT max(id) FROM outbox.dead)) AS known) AS ids
WHERE known > {last_id}";

const SET: &str = "SELECT setval($1::text::regclass, $2)";

/// Takes rows out of the ledgers that were written after their last mark, so that they are sent.
/// Returns how many, each target's counted.
pub(super) async fn release(client: &impl GenericClient, schema: &Schema) -> Result<i64, Error> {
    client.query_one(&schema.sql(RELEASE), &[]).await?.try_get(0)
}

/// The highest id that is known, where the sequence has not drawn it yet: the next ids would be used
/// a second time. With `advance` the sequence goes on behind it; no rollback takes that back.
pub(super) async fn behind(
    client: &impl GenericClient,
    schema: &Schema,
    advance: bool,
) -> Result<Option<i64>, Error> {
    let behind = identity::with_last_id(client, schema, BEHIND).await?;
    let Some(row) = client.query_opt(&behind, &[]).await? else { return Ok(None) };
    let (known, sequence): (i64, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    if advance && let Some(sequence) = sequence {
        client.query_one(SET, &[&sequence, &known]).await?;
    }
    Ok(Some(known))
}
