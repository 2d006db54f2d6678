//! Topics that no target of the outbox takes: a misspelt one, or a new one whose relay does not run yet.
//!
//! A target that takes one topic of ten is normal, so one target's own record says nothing. Only
//! here, where the routes of all targets are known, is it seen that a topic goes nowhere.
//!
//! A topic of which no message is left troubles nobody any more. The record has the first one; once
//! retention has passed it, this looks for a later one, piece by piece, and only then: in an outbox whose
//! topics are all taken it reads nothing but the record.

use std::collections::BTreeSet;

use tokio_postgres::{Client, Error};

use super::{SCAN_SETTINGS, floor};
use crate::admin::unrouted::{Routing, Untaken, named, routing};
use crate::route::Taken;
use crate::schema::Schema;

/// Messages that one look reads at most: about 0.1 s.
const PIECE_ROWS: i64 = 100_000;

/// Topics that one look names in the log.
const TOLD_MAX: usize = 10;

/// What the keeper knows of them, from its election to the loss of its session.
#[derive(Debug, Default)]
pub struct Unrouted {
    /// Up to which id messages were looked for, as long as that is needed.
    searched: Option<i64>,
    /// The routes under which that was.
    taken: Vec<(String, Taken)>,
    told: BTreeSet<(String, Option<String>)>,
}

// What the record does not know of the messages in a piece: each topic once, with its last message.
const PIECE: &str = "
SELECT topic, type, max(id) AS id, (SELECT max(id) FROM piece) AS reached
FROM piece GROUP BY topic, type";

const SEEN: &str = "
UPDATE outbox.unrouted SET seen_id = $3
WHERE topic = $1 AND type IS NOT DISTINCT FROM $2 AND NOT isempty(ids)
  AND greatest(first_id, seen_id) < $3";

const SEEN_AMONG_OTHERS: &str = "
UPDATE outbox.unrouted SET seen_id = $1 WHERE topic IS NULL AND NOT isempty(ids)";

impl Unrouted {
    /// Looks once; how many topics no target takes, `None` while the routes of one are unknown.
    ///
    /// # Errors
    /// The database's.
    pub async fn look(
        &mut self,
        client: &mut Client,
        schema: &Schema,
    ) -> Result<Option<usize>, Error> {
        let mut now = routing(client, schema).await?;
        if self.is_search_needed(&now) {
            self.search(client, schema, &now).await?;
            now = routing(client, schema).await?;
        }
        let Some(untaken) = now.untaken() else { return Ok(None) };
        self.tell(&untaken);
        Ok(Some(untaken.len()))
    }

    fn is_search_needed(&mut self, now: &Routing) -> bool {
        let needed = is_something_lost_sight_of(now);
        if !needed || self.taken != now.taken {
            // Other routes take other topics: what was looked at is looked at again.
            self.searched = None;
        }
        self.taken.clone_from(&now.taken);
        needed
    }

    async fn search(
        &mut self,
        client: &mut Client,
        schema: &Schema,
        now: &Routing,
    ) -> Result<(), Error> {
        let after = self.searched.unwrap_or(0).max(now.floor - 1);
        // No message that is found is deleted before it is recorded.
        let transaction = floor::hold(client, schema).await?;
        transaction.batch_execute(SCAN_SETTINGS).await?;
        let text = format!(
            "WITH piece AS MATERIALIZED (
                SELECT id, topic, type FROM outbox.message WHERE id > $1 ORDER BY id LIMIT $2
            ) {PIECE}"
        );
        let rows = transaction.query(&schema.sql(&text), &[&after, &PIECE_ROWS]).await?;
        for row in &rows {
            self.searched = row.try_get("reached")?;
            let (topic, kind): (&str, Option<&str>) = (row.try_get("topic")?, row.try_get("type")?);
            if now.takes(topic, kind) {
                continue;
            }
            let id: i64 = row.try_get("id")?;
            let by_name = now.recorded.iter().any(|recorded| {
                !recorded.others
                    && recorded.topic.as_deref() == Some(topic)
                    && recorded.kind.as_deref() == kind
            });
            if by_name {
                transaction.execute(&schema.sql(SEEN), &[&topic, &kind, &id]).await?;
            } else {
                transaction.execute(&schema.sql(SEEN_AMONG_OTHERS), &[&id]).await?;
            }
        }
        transaction.commit().await
    }

    /// Each topic once, and so many at a time: what is not told now is told by the next look.
    fn tell(&mut self, untaken: &[Untaken]) {
        let name = |untaken: &Untaken| (untaken.topic.clone(), untaken.r#type.clone());
        let news: Vec<&Untaken> =
            untaken.iter().filter(|untaken| !self.told.contains(&name(untaken))).collect();
        for untaken in news.iter().take(TOLD_MAX) {
            tracing::warn!(
                topic = untaken.topic,
                r#type = untaken.r#type,
                first_id = untaken.first_id,
                hint =
                    "is the topic misspelt? else add a route, then outbox-relay replay --unrouted",
                "no target takes the topic: its messages are settled and go nowhere"
            );
            self.told.insert(name(untaken));
        }
        if let Some(more) = news.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
            tracing::warn!(more, "further topics that no target takes are named later");
        }
    }
}

/// A topic that no target takes, or that may be one, and of which no message is known to be left.
fn is_something_lost_sight_of(now: &Routing) -> bool {
    if !now.is_known() {
        return false;
    }
    let everything = now.taken.iter().any(|(_, taken)| taken.takes_everything());
    !everything
        && now.recorded.iter().any(|row| match row.topic.as_deref() {
            Some(topic) if now.takes(topic, row.kind.as_deref()) => row.others,
            Some(_) => row.seen_id < now.floor,
            None => row.others,
        })
}

impl std::fmt::Display for Untaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&named(&self.topic, self.r#type.as_deref()))
    }
}
