//! Reads rows apart from each other, where one statement over all of them fails: one value that the
//! server cannot send (text that is not valid, a damaged payload) must not hold back the other rows.
//!
//! Rows are immutable, so a row that is read again by its id is the row that the first statement saw.

use std::collections::HashMap;

use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::error::{ReadError, classify};
use crate::database::Session;
use crate::message::{Message, Parts};
use crate::schema::Schema;

/// What reading by id came to.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// The rows that the server could send.
    pub(super) rows: Vec<Row>,
    /// The ids whose row it could not send, with what it said.
    pub(super) unreadable: HashMap<i64, String>,
}

/// Runs `statement` for these ids (its first parameter), for ever smaller halves of them where it fails.
pub(super) async fn read_apart(
    client: &Session,
    what: &'static str,
    statement: &Statement,
    ids: &[i64],
    more: &[&(dyn ToSql + Sync)],
) -> Result<Apart, ReadError> {
    let mut apart = Apart::default();
    let mut parts = vec![ids];
    while let Some(part) = parts.pop() {
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&part];
        parameters.extend_from_slice(more);
        let answer = client.query(statement, &parameters);
        let answer = client.deadline().answer(answer).await?;
        match answer.map_err(|error| classify(what, error)) {
            Ok(rows) => apart.rows.extend(rows),
            Err(ReadError::Row(failure)) => match part {
                [] => return Err(failure.stopped().into()),
                [id] => {
                    apart.unreadable.insert(*id, failure.reason());
                }
                _ => {
                    let (low, high) = part.split_at(part.len() / 2);
                    parts.extend([high, low]);
                }
            },
            Err(error) => return Err(error),
        }
    }
    if let Some(lowest) = apart.unreadable.keys().min() {
        tracing::error!(
            rows = apart.unreadable.len(),
            lowest_id = lowest,
            error = apart.unreadable[lowest],
            "rows cannot be read: they are given up, and the others go on"
        );
    }
    Ok(apart)
}

/// The message itself, or its dead copy: $1 is the id, $2 the target.
const FROM: &str = "
FROM (
    SELECT message_id, topic, type, key FROM outbox.message WHERE id = $1
    UNION ALL
    SELECT message_id, topic, type, key FROM outbox.dead WHERE target = $2 AND id = $1
    LIMIT 1
) AS one";

/// What can be read of a message that cannot be read as a whole, column by column: its topic routes
/// it, and its key goes on holding what it holds.
pub(super) async fn remains(
    client: &Session,
    schema: &Schema,
    target: &str,
    id: i64,
    reason: &str,
) -> Result<Message, ReadError> {
    let (from, key): (_, [&(dyn ToSql + Sync); 2]) = (schema.sql(FROM), [&id, &target]);
    let message_id: Option<Uuid> = column(client, "message_id", &from, &key).await?;
    let topic: Option<String> = column(client, "topic", &from, &key).await?;
    let kind: Option<String> = column(client, "type", &from, &key).await?;
    let ordering_key: Option<String> = column(client, "key", &from, &key).await?;
    let parts = Parts {
        id,
        message_id: message_id.unwrap_or_default(),
        created_at_us: 0,
        topic: topic.as_deref().unwrap_or_default(),
        key: ordering_key.as_deref(),
        kind: kind.as_deref(),
        headers: None,
        payload: None,
        oversize_bytes: None,
    };
    Ok(Message::unreadable(parts, reason))
}

/// One column of one row; `None` also where it is this one that cannot be read.
pub(super) async fn column<T: FromSqlOwned>(
    client: &Session,
    name: &str,
    from: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<T>, ReadError> {
    let text = format!("SELECT {name} {from}");
    let row = client.deadline().answer(client.query_opt(&text, parameters)).await?;
    match row.map_err(|error| classify("reading what is left of a row", error)) {
        Ok(row) => Ok(row.and_then(|row| row.try_get(0).ok().flatten())),
        Err(ReadError::Row(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
