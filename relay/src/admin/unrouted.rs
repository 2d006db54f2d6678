//! Rows that were settled unsent because no route of their target took them, as SQL finds them.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Error, GenericClient, Row};

use crate::route::Taken;
use crate::schema::Schema;

const ROUTES: &str = "SELECT routes FROM outbox.route WHERE target = $1";

/// What the last run of a target takes.
pub(crate) async fn running(
    client: &impl GenericClient,
    schema: &Schema,
    target: &str,
) -> Result<Taken, Error> {
    let row = client.query_opt(&schema.sql(ROUTES), &[&target]).await?;
    let taken = row.map(|row| row.try_get::<_, Value>(0)).transpose()?;
    Ok(Taken::parse(taken.as_ref()))
}

/// Whether the message `m` is one of the target `$1`. Whoever asks looks at `settled`, `retry` and `dead`
/// first: what stands there is not unrouted, whatever is recorded of its topic.
pub(crate) const IS_UNROUTED: &str = "
(EXISTS (
    SELECT FROM outbox.unrouted AS u
    WHERE u.target = $1 AND u.topic = m.topic AND u.type IS NOT DISTINCT FROM m.type AND u.ids @> m.id
) OR EXISTS (
    SELECT FROM outbox.unrouted AS u
    WHERE u.target = $1 AND u.topic IS NULL AND u.ids @> m.id AND NOT EXISTS (
        SELECT FROM jsonb_to_recordset(u.taken) AS taken(topic text, type text)
        WHERE m.topic LIKE taken.topic AND (taken.type IS NULL OR m.type LIKE taken.type)
    )
))";

/// Whether the routes in `route` take the message `m`.
pub(crate) const IS_TAKEN: &str = "
EXISTS (
    SELECT FROM jsonb_to_recordset(route.taken) AS taken(topic text, type text)
    WHERE m.topic LIKE taken.topic AND (taken.type IS NULL OR m.type LIKE taken.type)
)";

/// A topic that no target of the outbox takes, and of which messages stand in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Untaken {
    /// The topic.
    pub topic: String,
    /// The type; `None`: messages without one.
    pub r#type: Option<String>,
    /// The first such message that a relay has met.
    pub first_id: i64,
    /// One that is there.
    pub seen_id: i64,
}

/// A topic that a target did not take once and takes now: what was settled unsent can be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unsent {
    /// The topic.
    pub topic: String,
    /// The type.
    pub r#type: Option<String>,
    /// The first such message.
    pub first_id: i64,
}

/// A row of `outbox.unrouted`, or several of one topic and type, as far as messages are left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) target: String,
    /// `None`: all topics that have no row of their own, and none of them was looked for yet.
    pub(crate) topic: Option<String>,
    pub(crate) kind: Option<String>,
    /// The row of all others.
    pub(crate) others: bool,
    pub(crate) closed: bool,
    pub(crate) first_id: i64,
    pub(crate) seen_id: i64,
}

/// What each target takes, and what is recorded of that which it did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Routing {
    pub(crate) floor: i64,
    /// By target, of every ledger.
    pub(crate) taken: Vec<(String, Taken)>,
    pub(crate) recorded: Vec<Recorded>,
}

// Of the row of all others only the message that the keeper has found has a topic.
const RECORDED: &str = "
SELECT u.target, u.topic IS NULL AS others, coalesce(u.topic, m.topic) AS topic,
       CASE WHEN u.topic IS NULL THEN m.type ELSE u.type END AS type,
       upper(u.ids) < 4611686018427387905 AS closed, u.first_id,
       CASE WHEN u.topic IS NULL THEN coalesce(m.id, 0) ELSE greatest(u.first_id, u.seen_id) END AS seen_id
FROM outbox.unrouted AS u LEFT JOIN outbox.message AS m ON u.topic IS NULL AND m.id = u.seen_id
WHERE NOT isempty(u.ids)
ORDER BY u.first_id, u.unrouted_id";

const ALL_ROUTES: &str = "
SELECT ledger.target, route.routes, meta.floor
FROM outbox.meta, outbox.ledger LEFT JOIN outbox.route ON route.target = ledger.target
ORDER BY ledger.target";

/// Reads it, in one snapshot if the caller's transaction has one.
pub(crate) async fn routing(
    client: &impl GenericClient,
    schema: &Schema,
) -> Result<Routing, Error> {
    let (mut floor, mut taken) = (1, Vec::new());
    for row in client.query(&schema.sql(ALL_ROUTES), &[]).await? {
        floor = row.try_get("floor")?;
        let routes: Option<Value> = row.try_get("routes")?;
        taken.push((row.try_get("target")?, Taken::parse(routes.as_ref())));
    }
    let recorded = client.query(&schema.sql(RECORDED), &[]).await?;
    let row = |row: Row| {
        Ok(Recorded {
            target: row.try_get("target")?,
            topic: row.try_get("topic")?,
            kind: row.try_get("type")?,
            others: row.try_get("others")?,
            closed: row.try_get("closed")?,
            first_id: row.try_get("first_id")?,
            seen_id: row.try_get("seen_id")?,
        })
    };
    let recorded = recorded.into_iter().map(row).collect::<Result<_, Error>>()?;
    Ok(Routing { floor, taken, recorded })
}

impl Routing {
    /// Whether the routes of every target are known. Nothing is concluded from what one of them may take.
    pub(crate) fn is_known(&self) -> bool {
        self.taken.iter().all(|(_, taken)| taken.is_known())
    }

    /// Whether a target takes it.
    pub(crate) fn takes(&self, topic: &str, kind: Option<&str>) -> bool {
        self.taken.iter().any(|(_, taken)| taken.takes(topic, kind))
    }

    /// The topics that no target takes and of which messages are left; `None`: that cannot be said.
    pub(crate) fn untaken(&self) -> Option<Vec<Untaken>> {
        if !self.is_known() {
            return None;
        }
        let mut untaken: Vec<Untaken> = Vec::new();
        let mut known = HashMap::new();
        for row in &self.recorded {
            let Some(topic) = row.topic.as_deref() else { continue };
            if row.seen_id < self.floor || self.takes(topic, row.kind.as_deref()) {
                continue;
            }
            let at = *known.entry((topic, row.kind.as_deref())).or_insert(untaken.len());
            match untaken.get_mut(at) {
                Some(other) => other.seen_id = other.seen_id.max(row.seen_id),
                None => untaken.push(Untaken {
                    topic: topic.to_owned(),
                    r#type: row.kind.clone(),
                    first_id: if row.others { row.seen_id } else { row.first_id },
                    seen_id: row.seen_id,
                }),
            }
        }
        Some(untaken)
    }

    /// What a target did not take and takes by now.
    pub(crate) fn unsent(&self, target: &str) -> Vec<Unsent> {
        let taken = self.taken.iter().find(|(name, _)| name == target).map(|(_, taken)| taken);
        let Some(taken) = taken.filter(|taken| taken.is_known()) else { return Vec::new() };
        let mine = self.recorded.iter().filter(|row| row.target == target && row.closed);
        let now = mine.filter_map(|row| match row.topic.as_deref() {
            _ if row.others => None,
            Some(topic) if taken.takes(topic, row.kind.as_deref()) => Some(Unsent {
                topic: topic.to_owned(),
                r#type: row.kind.clone(),
                first_id: row.first_id,
            }),
            _ => None,
        });
        let mut unsent: Vec<Unsent> = Vec::new();
        for row in now {
            let same = |other: &Unsent| other.topic == row.topic && other.r#type == row.r#type;
            if !unsent.iter().any(same) {
                unsent.push(row);
            }
        }
        unsent
    }
}

/// A topic and a type, for people.
pub(crate) fn named(topic: &str, kind: Option<&str>) -> String {
    match kind {
        Some(kind) => format!("topic {topic:?}, type {kind:?}"),
        None => format!("topic {topic:?}"),
    }
}
