//! Dead messages: listed, shown, requeued, discarded.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, GenericClient, Row};
use uuid::Uuid;

use crate::admin::lossy::{Json, Lossy};
use crate::admin::moment::Moment;
use crate::database::{Reaction, reaction};
use crate::schema::Schema;

mod change;

pub use change::{CHANGE_ROWS_MAX, Changed, discard, requeue};

/// Which dead messages. Every field that is set narrows the choice.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Filter {
    /// Of this target.
    #[serde(skip)]
    pub target: Option<String>,
    /// With one of these ids; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<i64>,
    /// With this ordering key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// With this topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// With this text somewhere in the reason; upper and lower case are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// That died at least so long ago.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "age")]
    pub older_than: Option<Duration>,
    /// That died at most so long ago.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "age")]
    pub newer_than: Option<Duration>,
}

impl Filter {
    /// Whether it chooses by nothing but the target.
    #[must_use]
    pub fn is_whole_target(&self) -> bool {
        self.ids.is_empty()
            && self.key.is_none()
            && self.topic.is_none()
            && self.reason.is_none()
            && self.older_than.is_none()
            && self.newer_than.is_none()
    }
}

/// An age as it is typed: `2h`.
fn age<S: serde::Serializer>(age: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match age {
        Some(age) => serializer.collect_str(&humantime::format_duration(*age)),
        None => serializer.serialize_none(),
    }
}

/// A dead message without its headers and payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadRow {
    /// For which target it is dead.
    pub target: String,
    /// Its row id.
    pub id: i64,
    /// Its message id.
    pub message_id: Uuid,
    /// Its topic.
    pub topic: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its ordering key.
    pub key: Option<String>,
    /// How often it was tried.
    pub attempts: i32,
    /// What kind of refusal ended it.
    pub class: String,
    /// What the broker said.
    pub reason: String,
    /// When it was written.
    pub created_at: Moment,
    /// When it died.
    pub died_at: Moment,
    /// The length of its payload in bytes; `None`: it has none (a tombstone).
    pub payload_bytes: Option<i32>,
    /// It stands in `retry` again.
    pub requeued: bool,
}

/// A dead message with its headers.
#[derive(Debug, Clone, Serialize)]
pub struct DeadMessage {
    /// Everything else.
    #[serde(flatten)]
    pub row: DeadRow,
    /// Its headers, as written.
    pub headers: Option<Box<RawValue>>,
}

/// What a row shows that cannot be read.
const UNREADABLE: &str = "(cannot be read)";

// The bytes as they stand, where the server refuses to send them as text.
const COLUMNS_AS_BYTES: &str = "
dead.target, dead.id, message_id, convert_to(topic, getdatabaseencoding()) AS topic,
convert_to(type, getdatabaseencoding()) AS type, convert_to(key, getdatabaseencoding()) AS key,
attempts, class, convert_to(reason, getdatabaseencoding()) AS reason, created_at, died_at,
octet_length(payload) AS payload_bytes,
EXISTS (SELECT FROM outbox.retry WHERE retry.target = dead.target AND retry.id = dead.id
        AND retry.class <> 'poison') AS requeued,
convert_to(headers::text, getdatabaseencoding()) AS headers";

const COLUMNS: &str = "
dead.target, dead.id, message_id, topic, type, key, attempts, class, reason, created_at, died_at,
octet_length(payload) AS payload_bytes,
EXISTS (SELECT FROM outbox.retry WHERE retry.target = dead.target AND retry.id = dead.id
        AND retry.class <> 'poison') AS requeued";

// $1 to $7. strpos and not LIKE: a reason is full of underscores and percent signs.
const CHOSEN: &str = "
($1::text IS NULL OR dead.target = $1)
AND ($2::bigint[] IS NULL OR dead.id = ANY ($2))
AND ($3::text IS NULL OR dead.key = $3)
AND ($4::text IS NULL OR dead.topic = $4)
AND ($5::text IS NULL OR strpos(lower(dead.reason), lower($5)) > 0)
AND ($6::float8 IS NULL OR dead.died_at <= now() - make_interval(secs => $6))
AND ($7::float8 IS NULL OR dead.died_at >= now() - make_interval(secs => $7))";

const NOT_REQUEUED: &str = "
NOT EXISTS (SELECT FROM outbox.retry WHERE retry.target = dead.target AND retry.id = dead.id
            AND retry.class <> 'poison')";

const ID_TAKEN: &str = "
EXISTS (SELECT FROM outbox.message WHERE message.id = dead.id AND message.message_id <> dead.message_id)";

/// The chosen dead messages, those that died last first, at most `rows_max`.
///
/// # Errors
/// The database's.
pub async fn list(
    client: &impl GenericClient,
    schema: &Schema,
    filter: &Filter,
    rows_max: i64,
) -> Result<Vec<DeadRow>, Error> {
    let text = format!(
        "SELECT {COLUMNS} FROM outbox.dead WHERE {CHOSEN}
         ORDER BY died_at DESC, dead.target, dead.id LIMIT $8"
    );
    match Chosen::new(filter).query(client, &schema.sql(&text), &[&rows_max]).await {
        Ok(rows) => rows.iter().map(dead_row).collect(),
        Err(error) if reaction(&error) == Reaction::Data => {
            apart(client, schema, filter, rows_max).await
        }
        Err(error) => Err(error),
    }
}

/// The same, row by row: one that the server cannot send hides no other.
async fn apart(
    client: &impl GenericClient,
    schema: &Schema,
    filter: &Filter,
    rows_max: i64,
) -> Result<Vec<DeadRow>, Error> {
    let text = format!(
        "SELECT dead.target, dead.id FROM outbox.dead WHERE {CHOSEN}
         ORDER BY died_at DESC, dead.target, dead.id LIMIT $8"
    );
    let places = Chosen::new(filter).query(client, &schema.sql(&text), &[&rows_max]).await?;
    let mut rows = Vec::new();
    for place in places {
        let (target, id): (String, i64) = (place.try_get(0)?, place.try_get(1)?);
        if let Some(row) = one(client, schema, &target, id).await? {
            rows.push(row.row);
        }
    }
    Ok(rows)
}

/// One dead message with its headers, without its payload.
///
/// # Errors
/// The database's.
pub async fn show(
    client: &impl GenericClient,
    schema: &Schema,
    target: &str,
    id: i64,
) -> Result<Option<DeadMessage>, Error> {
    one(client, schema, target, id).await
}

async fn one(
    client: &impl GenericClient,
    schema: &Schema,
    target: &str,
    id: i64,
) -> Result<Option<DeadMessage>, Error> {
    let message = |row: Row| {
        let headers: Option<Json> = row.try_get("headers")?;
        let headers = headers.and_then(|json| RawValue::from_string(json.0).ok());
        Ok(DeadMessage { row: dead_row(&row)?, headers })
    };
    for columns in [&format!("{COLUMNS}, headers"), COLUMNS_AS_BYTES] {
        let text =
            format!("SELECT {columns} FROM outbox.dead WHERE dead.target = $1 AND dead.id = $2");
        match client.query_opt(&schema.sql(&text), &[&target, &id]).await {
            Ok(row) => return row.map(message).transpose(),
            Err(error) if reaction(&error) == Reaction::Data => {}
            Err(error) => return Err(error),
        }
    }
    let text = "SELECT message_id, attempts, class, created_at, died_at
                FROM outbox.dead WHERE target = $1 AND id = $2";
    let row = client.query_opt(&schema.sql(text), &[&target, &id]).await?;
    row.map(|row| remains(target, id, &row)).transpose()
}

/// A row of which not even the bytes can be had: its fixed columns.
fn remains(target: &str, id: i64, row: &Row) -> Result<DeadMessage, Error> {
    let row = DeadRow {
        target: target.to_owned(),
        id,
        message_id: row.try_get("message_id")?,
        topic: UNREADABLE.to_owned(),
        kind: None,
        key: None,
        attempts: row.try_get("attempts")?,
        class: row.try_get("class")?,
        reason: UNREADABLE.to_owned(),
        created_at: row.try_get("created_at")?,
        died_at: row.try_get("died_at")?,
        payload_bytes: None,
        requeued: false,
    };
    Ok(DeadMessage { row, headers: None })
}

/// The payload of one dead message: `None`, there is no such message; `Some(None)`, it has none.
///
/// # Errors
/// The database's.
pub async fn payload(
    client: &impl GenericClient,
    schema: &Schema,
    target: &str,
    id: i64,
) -> Result<Option<Option<Vec<u8>>>, Error> {
    let text = "SELECT payload FROM outbox.dead WHERE target = $1 AND id = $2";
    let row = client.query_opt(&schema.sql(text), &[&target, &id]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// The parameters $1 to $7 of [`CHOSEN`].
struct Chosen<'a> {
    filter: &'a Filter,
    ids: Option<&'a [i64]>,
    older_s: Option<f64>,
    newer_s: Option<f64>,
}

impl<'a> Chosen<'a> {
    fn new(filter: &'a Filter) -> Self {
        Self {
            filter,
            ids: (!filter.ids.is_empty()).then_some(filter.ids.as_slice()),
            older_s: filter.older_than.map(|age| age.as_secs_f64()),
            newer_s: filter.newer_than.map(|age| age.as_secs_f64()),
        }
    }

    /// Runs `text` with $1 to $7, and `more` from $8 on.
    async fn query(
        &self,
        client: &impl GenericClient,
        text: &str,
        more: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let Filter { target, key, topic, reason, .. } = self.filter;
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![target, &self.ids, key, topic, reason, &self.older_s, &self.newer_s];
        parameters.extend_from_slice(more);
        client.query(text, &parameters).await
    }
}

fn dead_row(row: &Row) -> Result<DeadRow, Error> {
    let text = |column| row.try_get::<_, Lossy>(column).map(|text| text.0);
    let optional = |column| {
        let text: Option<Lossy> = row.try_get(column)?;
        Ok::<_, Error>(text.map(|text| text.0))
    };
    Ok(DeadRow {
        target: row.try_get("target")?,
        id: row.try_get("id")?,
        message_id: row.try_get("message_id")?,
        topic: text("topic")?,
        kind: optional("type")?,
        key: optional("key")?,
        attempts: row.try_get("attempts")?,
        class: text("class")?,
        reason: text("reason")?,
        created_at: row.try_get("created_at")?,
        died_at: row.try_get("died_at")?,
        payload_bytes: row.try_get("payload_bytes")?,
        requeued: row.try_get("requeued")?,
    })
}
