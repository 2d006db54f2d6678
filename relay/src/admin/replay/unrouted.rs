//! What a replay sends is not unrouted any more.

use tokio_postgres::{Error, Transaction};

use super::Request;
use crate::range::RangeSet;
use crate::route::Taken;
use crate::schema::Schema;

const ROWS: &str = "
SELECT unrouted_id, topic, type FROM outbox.unrouted WHERE target = $1 AND ids && int8range($2, $3)";

const TAKE_OUT: &str = "
UPDATE outbox.unrouted SET ids = ids - $2::text::int8multirange
WHERE unrouted_id = ANY ($1) AND ids && $2::text::int8multirange";

/// Takes the ids of a piece out of what is recorded as unsent.
///
/// Where the piece has every message of a topic between two ids, that stretch is taken out as a whole,
/// and so is what lies in it of other topics, which the row says nothing about: a set of single ids of
/// one topic among many would have as many ranges as the topic has messages.
pub(super) async fn take_out(
    transaction: &Transaction<'_>,
    schema: &Schema,
    request: &Request<'_>,
    running: &Taken,
    (after, reached): (i64, i64),
    put: &RangeSet,
) -> Result<(), Error> {
    if put.is_empty() {
        return Ok(());
    }
    let (mut whole, mut single) = (Vec::new(), Vec::new());
    let rows = transaction
        .query(&schema.sql(ROWS), &[&request.target, &(after + 1), &(reached + 1)])
        .await?;
    for row in rows {
        let (id, topic): (i64, Option<&str>) = (row.try_get("unrouted_id")?, row.try_get("topic")?);
        let kind: Option<&str> = row.try_get("type")?;
        let every = topic.is_some_and(|topic| request.takes_every(running, topic, kind));
        if every { whole.push(id) } else { single.push(id) }
    }
    let stretch = RangeSet::from(after + 1..reached + 1);
    for (ids, set) in [(whole, &stretch), (single, put)] {
        if !ids.is_empty() {
            transaction.execute(&schema.sql(TAKE_OUT), &[&ids, &set.to_string()]).await?;
        }
    }
    Ok(())
}

impl Request<'_> {
    /// Whether it chooses every settled message of the topic and type. (What is pending is sent when it
    /// is read, and what is set aside is not recorded as unsent.)
    fn takes_every(&self, running: &Taken, topic: &str, kind: Option<&str>) -> bool {
        let choice = self.choice;
        let narrowed = !choice.ids.is_empty()
            || choice.key.is_some()
            || choice.from.is_some()
            || choice.to.is_some();
        !narrowed
            && choice.topic.as_ref().is_none_or(|glob| glob.matches(topic))
            && self.takes(running, topic, kind)
    }
}
