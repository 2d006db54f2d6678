//! Rows that wait, given up: they go to `dead`, and the later ones of their keys go on.
//!
//! A row that waits for a destination which no operator will ever make, or for a route that none will
//! write, holds its key without an end. Giving it up is a decision, so it is recorded.

use serde::Serialize;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use crate::admin::{AdminError, end, named, target};
use crate::decision::{self, Decided, Decision};
use crate::keeper::{SCAN_SETTINGS, floor};
use crate::schema::Schema;

/// Rows that one transaction gives up: each is copied with its payload.
const PIECE_ROWS: i64 = 1_000;

/// Which rows.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// All that wait for this destination, or for this route, as `hold list` names it.
    Destination(&'a str),
    /// The one that holds this key.
    Key(&'a str),
}

/// What was given up, or (dry run) would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GivenUp {
    /// How many messages.
    pub rows: u64,
    /// Their ids, ascending, the first hundred.
    pub ids: Vec<i64>,
    /// Messages of their keys that are due in their place.
    pub due: u64,
    /// Messages that were being tried at this moment, and are left where they are.
    pub left: i64,
}

// What is due may be in a relay's hands, and its mark would put the row back: it is left alone.
// A straggler may have arrived, and a poisonous row is dead already.
const WAITS: &str = "
retry.target = $1 AND retry.class IN ('parked', 'refused') AND retry.next_at > clock_timestamp()";

const OF_DESTINATION: &str = "retry.class = 'parked' AND retry.destination = $2 AND retry.id > $3";

const OF_KEY: &str = "
retry.id > $3 AND retry.id = (
    SELECT h.id FROM outbox.retry AS h
    WHERE h.target = $1 AND h.holds AND h.key = $2 ORDER BY h.key, h.id LIMIT 1
)";

const GIVE_UP: &str = "
WITH chosen AS (
    SELECT id, key, holds, attempts, destination, reason FROM outbox.retry
    WHERE {waits} AND {which}
    ORDER BY id LIMIT $4
    FOR UPDATE
), dying AS (
    SELECT m.*, chosen.attempts,
           'given up' || coalesce(' while it waited for ' || chosen.destination, '')
                      || coalesce(': ' || chosen.reason, '') AS reason
    FROM chosen, LATERAL (
        SELECT id, message_id, topic, key, type, headers, payload, created_at
        FROM outbox.message WHERE id = chosen.id
        UNION ALL
        SELECT id, message_id, topic, key, type, headers, payload, created_at
        FROM outbox.dead WHERE target = $1 AND id = chosen.id
        LIMIT 1
    ) AS m
), replaced AS (
    -- No person decided about the message that had the id before: its content is kept.
    INSERT INTO outbox.displaced (target, id, message_id, displaced_by, copy, payload)
    SELECT $1, dead.id, dead.message_id, dying.message_id, to_jsonb(r), dead.payload
    FROM dying
    JOIN outbox.dead ON dead.target = $1 AND dead.id = dying.id AND dead.message_id <> dying.message_id,
         LATERAL (SELECT dead.topic, dead.type, dead.key, dead.headers, dead.created_at, dead.died_at,
                         dead.attempts, dead.class, dead.reason) AS r
), buried AS (
    INSERT INTO outbox.dead (target, id, message_id, topic, key, type, headers, payload,
                             created_at, attempts, class, reason)
    SELECT $1, id, message_id, topic, key, type, headers, payload, created_at, attempts, 'given_up', reason
    FROM dying
    ON CONFLICT (target, id) DO UPDATE
    SET message_id = excluded.message_id, topic = excluded.topic, key = excluded.key,
        type = excluded.type, headers = excluded.headers, payload = excluded.payload,
        created_at = excluded.created_at, attempts = excluded.attempts, class = excluded.class,
        reason = excluded.reason, died_at = now()
)
DELETE FROM outbox.retry USING chosen
WHERE retry.target = $1 AND retry.id = chosen.id
RETURNING retry.id, CASE WHEN retry.holds THEN retry.key END AS held";

// As the statement behind a mark does: the next of each key is due.
const PROMOTE: &str = "
UPDATE outbox.retry SET next_at = now()
FROM unnest($2::text[]) AS held(key),
     LATERAL (
         SELECT h.id FROM outbox.retry AS h
         WHERE h.target = $1 AND h.key = held.key AND h.holds
         ORDER BY h.id LIMIT 1
     ) AS head
WHERE retry.target = $1 AND retry.id = head.id AND retry.next_at IS NULL";

const LEFT: &str = "
SELECT count(*) FROM outbox.retry
WHERE target = $1 AND class = 'parked' AND destination = $2 AND next_at <= clock_timestamp()";

/// Gives the rows up: a full copy of each goes to `dead`, where `dead requeue` and `dead discard` reach
/// it, and its key is free, whatever `on_poison` says.
///
/// With `dry_run` everything is done, counted and rolled back.
///
/// # Errors
/// [`AdminError::UnknownTarget`], [`AdminError::Busy`], the database's; with
/// [`AdminError::Partly`] around it once a piece is committed.
pub async fn give_up(
    client: &mut Client,
    schema: &Schema,
    target: &str,
    which: Which<'_>,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<GivenUp, AdminError> {
    let (command_id, mut after, mut ids) = (Uuid::now_v7(), 0, Vec::new());
    let mut given = GivenUp::default();
    loop {
        let piece = async {
            let transaction = floor::hold(client, schema).await?;
            target::expect(&transaction, schema, target).await?;
            let (ids, due) = piece(&transaction, schema, target, which, after).await?;
            let filter = match which {
                Which::Destination(name) => serde_json::json!({ "destination": name }),
                Which::Key(key) => serde_json::json!({ "key": key }),
            };
            let decided = Decided {
                command_id,
                command: "hold give-up",
                target: Some(target),
                filter: &filter,
                rows: ids.len() as u64,
                ids: decision::id_set(&ids),
                message_ids: None,
            };
            decision::record(&transaction, schema, decided, decision).await?;
            end(transaction, dry_run).await?;
            Ok::<_, AdminError>((ids, due))
        };
        let (piece, due) = match piece.await {
            Ok(piece) => piece,
            Err(source) if given.rows > 0 && !dry_run => {
                let done = format!("{} rows were given up", given.rows);
                let hint = "run it again".to_owned();
                return Err(AdminError::Partly { done, hint, source: Box::new(source) });
            }
            Err(error) => return Err(error),
        };
        given.rows += piece.len() as u64;
        given.due += due;
        ids.extend_from_slice(&piece);
        // One key has one head: the next of it was not asked for.
        let more = matches!(which, Which::Destination(_)).then(|| piece.iter().max()).flatten();
        match more {
            Some(&last) => after = last,
            None => break,
        }
    }
    if let Which::Destination(name) = which {
        let row = client.query_one(&schema.sql(LEFT), &[&target, &name]).await?;
        given.left = row.try_get(0)?;
    }
    given.ids = named(ids);
    Ok(given)
}

/// The ids that were given up, and how many others are due in their place.
async fn piece(
    transaction: &Transaction<'_>,
    schema: &Schema,
    target: &str,
    which: Which<'_>,
    after: i64,
) -> Result<(Vec<i64>, u64), tokio_postgres::Error> {
    transaction.batch_execute(SCAN_SETTINGS).await?;
    let (condition, name) = match which {
        Which::Destination(name) => (OF_DESTINATION, name),
        Which::Key(key) => (OF_KEY, key),
    };
    let text = GIVE_UP.replace("{waits}", WAITS).replace("{which}", condition);
    let text = schema.sql(&text);
    let rows = transaction.query(&text, &[&target, &name, &after, &PIECE_ROWS]).await?;
    let held = rows.iter().map(|row| row.try_get::<_, Option<&str>>("held"));
    let keys: Vec<&str> = held.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    let due = transaction.execute(&schema.sql(PROMOTE), &[&target, &keys]).await?;
    let ids = rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?;
    Ok((ids, due))
}
