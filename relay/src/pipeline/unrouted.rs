//! What a life finds of rows that no route took: it ends what other routes began, and tells what it
//! could send.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use super::Context;
use crate::admin::unrouted::{IS_TAKEN, IS_UNROUTED};
use crate::database::{DatabaseError, Session};
use crate::flow::KnownUnrouted;
use crate::route::RouteConfig;
use crate::schema::Schema;

/// Messages are counted up to this number: for people, and the scan is bounded by `statement_timeout`.
const COUNTED_ROWS: i64 = 100_000;

// A row of other routes ends where the ledger ends: above that no life has settled anything. One of the
// same routes goes on, from there if the ledger was rebuilt meanwhile. Nothing is written in a life that
// has the routes of the one before.
const END: &str = "
UPDATE outbox.unrouted AS unrouted
SET ids = CASE WHEN goes_on THEN ids + int8multirange(int8range(last, 4611686018427387905))
               ELSE ids * int8multirange(int8range(1, last)) END,
    closed_at = CASE WHEN goes_on THEN NULL ELSE coalesce(closed_at, now()) END
FROM (
    SELECT u.unrouted_id, coalesce(upper(ledger.settled), 1) AS last,
           u.hash = $2 AND upper(u.ids) = 4611686018427387905 AS goes_on
    FROM outbox.unrouted AS u JOIN outbox.ledger ON ledger.target = u.target
    WHERE u.target = $1
) AS found
WHERE unrouted.unrouted_id = found.unrouted_id
  AND CASE WHEN goes_on THEN NOT ids @> int8range(last, 4611686018427387905)
           ELSE upper(ids) > last END";

// The same before and after the statement above.
const KNOWN: &str = "
SELECT topic, type, hash = $2 AND upper(ids) = 4611686018427387905 AS open
FROM outbox.unrouted WHERE target = $1 AND NOT isempty(ids)";

/// Ends what other routes began; what there is.
///
/// Before the first mark of the life, which is what the ends rest on.
pub(super) async fn begin(
    client: &Client,
    schema: &Schema,
    target: &str,
    hash: &str,
) -> Result<Vec<KnownUnrouted>, Error> {
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&target, Type::TEXT), (&hash, Type::TEXT)];
    let (end, known) = (schema.sql(END), schema.sql(KNOWN));
    let (_, known) = tokio::try_join!(
        client.query_typed(&end, &parameters),
        client.query_typed(&known, &parameters),
    )?;
    let row = |row: tokio_postgres::Row| {
        Ok(KnownUnrouted {
            topic: row.try_get("topic")?,
            kind: row.try_get("type")?,
            open: row.try_get("open")?,
        })
    };
    known.into_iter().map(row).collect()
}

/// Whether the routes of today may take something that those of another day did not.
pub(super) fn is_wanted_now(known: &[KnownUnrouted], routes: &[RouteConfig]) -> bool {
    let takes =
        |topic: &str, kind: Option<&str>| routes.iter().any(|route| route.takes(topic, kind));
    known.iter().any(|row| match &row.topic {
        _ if row.open => false,
        Some(topic) => takes(topic, row.kind.as_deref()),
        None => true,
    })
}

// What stands in `retry` is being sent, and what stands in `dead` has a remedy of its own.
const COUNT: &str = "
SELECT count(*) FROM (
    SELECT FROM outbox.message AS m, outbox.route, (
        SELECT min(lower(ids)) AS first, max(upper(ids)) AS last
        FROM outbox.unrouted WHERE target = $1 AND closed_at IS NOT NULL AND NOT isempty(ids)
    ) AS span
    WHERE m.id >= span.first AND m.id < span.last AND route.target = $1 AND {taken} AND {unrouted}
      AND NOT EXISTS (SELECT FROM outbox.retry AS r WHERE r.target = $1 AND r.id = m.id)
      AND NOT EXISTS (SELECT FROM outbox.dead AS d WHERE d.target = $1 AND d.id = m.id)
    LIMIT $2
) AS counted";

/// Says how many messages the routes of today take and those of another day did not. The pipeline does
/// not send them by itself: an operator may have widened a route for what is to come.
pub(super) async fn tell(context: Context) {
    let name = &context.target.name;
    let hint = format!("outbox-relay replay --target {name} --unrouted sends them");
    match count(&context).await {
        Ok(0) => {}
        Ok(rows) if rows >= COUNTED_ROWS => tracing::info!(
            target_name = name,
            at_least = rows,
            hint,
            "messages that no route took before are taken by the routes of today"
        ),
        Ok(rows) => tracing::info!(
            target_name = name,
            rows,
            hint,
            "messages that no route took before are taken by the routes of today"
        ),
        Err(error) => tracing::info!(
            target_name = name,
            %error,
            hint,
            "the routes of today take topics that were settled unsent before; the messages could not be counted"
        ),
    }
}

async fn count(context: &Context) -> Result<i64, DatabaseError> {
    let session = Session::connect(&context.database, &context.session_name("unrouted")).await?;
    let text = COUNT.replace("{unrouted}", IS_UNROUTED).replace("{taken}", IS_TAKEN);
    let text = context.schema.sql(&text);
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&context.target.name, Type::TEXT), (&COUNTED_ROWS, Type::INT8)];
    let asked = session.query_typed_one(&text, &parameters);
    Ok(session.deadline().answer(asked).await??.try_get(0)?)
}
