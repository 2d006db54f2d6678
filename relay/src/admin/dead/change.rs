//! Dead messages sent again, or given up for good.
//!
//! What becomes of a dead row that is requeued: it stays where it is, as the copy its `retry` row is
//! served from when the message itself has been deleted. The mark that settles the `retry` row deletes
//! both in one statement if the message was delivered, and renews the dead row if it died again. Until
//! then it is *requeued*: listed as such, and neither requeued twice nor discarded.

use serde::Serialize;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use super::{CHOSEN, Chosen, Filter, ID_TAKEN, NOT_REQUEUED};
use crate::admin::{AdminError, end, hold, named, target};
use crate::decision::{self, Decided, Decision};
use crate::keeper::floor;
use crate::schema::Schema;

/// Messages that one requeue or discard takes.
pub const CHANGE_ROWS_MAX: i64 = 100_000;

/// What a requeue or a discard did, or (dry run) would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// How many messages.
    pub rows: u64,
    /// Their ids, ascending, the first hundred.
    pub ids: Vec<i64>,
    /// More are chosen than one run takes: run it again.
    pub more: bool,
}

/// Puts the chosen messages of one target into `retry` again, with no attempts, due at once, holding
/// nobody; one that holds its key (`on_poison = "hold_key"`) goes on holding it until it is delivered.
/// Under `@floor`, so that retention sees the `retry` row or has deleted the message before.
///
/// One whose id another message has by now (the identity went back) is left out: `retry` names rows by
/// their ids, and the other would be sent.
///
/// With `dry_run` everything is done, counted and rolled back.
///
/// # Errors
/// [`AdminError::UnknownTarget`] if the target has no ledger (it was removed): nobody would serve the
/// rows. [`AdminError::IdTaken`] if it was asked for by its id and is left out.
/// [`AdminError::Busy`], the database's.
pub async fn requeue(
    client: &mut Client,
    schema: &Schema,
    target: &str,
    filter: &Filter,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<Changed, AdminError> {
    let text = format!(
        "INSERT INTO outbox.retry (target, id, key, holds, attempts, next_at, class, reason)
         SELECT target, id, key, false, 0, now(), 'requeued', reason
         FROM outbox.dead WHERE {CHOSEN} AND {NOT_REQUEUED} AND NOT {ID_TAKEN} ORDER BY id LIMIT $8
         ON CONFLICT (target, id) DO UPDATE
         SET class = 'requeued', attempts = 0, next_at = now()
         WHERE retry.class = 'poison'
         RETURNING id"
    );
    let transaction = floor::hold(client, schema).await?;
    target::expect(&transaction, schema, target).await?;
    let filter = Filter { target: Some(target.to_owned()), ..filter.clone() };
    if !filter.ids.is_empty() {
        let text = format!("SELECT id FROM outbox.dead WHERE {CHOSEN} AND {ID_TAKEN} ORDER BY id");
        let taken = Chosen::new(&filter).query(&transaction, &schema.sql(&text), &[]).await?;
        if let Some(row) = taken.first() {
            return Err(AdminError::IdTaken { target: target.to_owned(), id: row.try_get("id")? });
        }
    }
    let rows =
        Chosen::new(&filter).query(&transaction, &schema.sql(&text), &[&CHANGE_ROWS_MAX]).await?;
    let ids = ids(&rows)?;
    let decided = decided("dead requeue", target, &filter, &ids);
    decision::record(&transaction, schema, decided, decision).await?;
    end(transaction, dry_run).await?;
    Ok(changed(ids))
}

/// Deletes the chosen dead messages of one target and records who decided it, and why. Messages that
/// are requeued are left alone; a key that one of them held is free. Under `@floor`, so that nobody
/// requeues them meanwhile.
///
/// With `dry_run` everything is done, counted and rolled back.
///
/// # Errors
/// [`AdminError::Busy`], the database's.
pub async fn discard(
    client: &mut Client,
    schema: &Schema,
    target: &str,
    filter: &Filter,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<Changed, AdminError> {
    let text = format!(
        "WITH chosen AS (
             SELECT target, id FROM outbox.dead
             WHERE {CHOSEN} AND {NOT_REQUEUED} ORDER BY id LIMIT $8
         )
         DELETE FROM outbox.dead USING chosen
         WHERE dead.target = chosen.target AND dead.id = chosen.id
         RETURNING dead.id, dead.message_id"
    );
    let transaction = floor::hold(client, schema).await?;
    let filter = Filter { target: Some(target.to_owned()), ..filter.clone() };
    let rows =
        Chosen::new(&filter).query(&transaction, &schema.sql(&text), &[&CHANGE_ROWS_MAX]).await?;
    let message_ids: Vec<Uuid> =
        rows.iter().map(|row| row.try_get("message_id")).collect::<Result<_, _>>()?;
    let ids = ids(&rows)?;
    let decided = Decided {
        message_ids: Some(&message_ids),
        ..decided("dead discard", target, &filter, &ids)
    };
    decision::record(&transaction, schema, decided, decision).await?;
    hold::release_keys(&transaction, schema, target, &ids).await?;
    end(transaction, dry_run).await?;
    Ok(changed(ids))
}

fn decided<'a>(
    command: &'a str,
    target: &'a str,
    filter: &'a Filter,
    ids: &[i64],
) -> Decided<'a, Filter> {
    Decided {
        command_id: Uuid::now_v7(),
        command,
        target: Some(target),
        filter,
        rows: ids.len() as u64,
        ids: decision::id_set(ids),
        message_ids: None,
    }
}

fn ids(rows: &[Row]) -> Result<Vec<i64>, Error> {
    rows.iter().map(|row| row.try_get("id")).collect()
}

fn changed(ids: Vec<i64>) -> Changed {
    let more = i64::try_from(ids.len()).is_ok_and(|rows| rows >= CHANGE_ROWS_MAX);
    Changed { rows: ids.len() as u64, ids: named(ids), more }
}
