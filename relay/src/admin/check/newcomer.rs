//! What a target that has no ledger yet will send: a renamed target would send everything again.

use tokio_postgres::{Client, Error};

use super::Finding;
use crate::admin::status::{Count, PENDING_COUNTED_MAX};
use crate::config::{Start, TargetConfig};
use crate::schema::Schema;

const LEDGERS: &str = "SELECT target FROM outbox.ledger ORDER BY target";

const MESSAGES: &str = "
SELECT count(*) FROM (SELECT FROM outbox.message LIMIT $1) AS counted";

pub(super) async fn look(
    client: &Client,
    schema: &Schema,
    targets: &[TargetConfig],
) -> Result<Vec<Finding>, Error> {
    let rows = client.query(&schema.sql(LEDGERS), &[]).await?;
    let ledgers: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let is_new = |target: &&TargetConfig| !ledgers.contains(&target.name);
    let newcomers: Vec<&TargetConfig> = targets.iter().filter(is_new).collect();
    if newcomers.is_empty() {
        return Ok(Vec::new());
    }
    let is_left = |name: &&String| targets.iter().all(|target| target.name != **name);
    let left: Vec<&String> = ledgers.iter().filter(is_left).collect();
    let counted = client.query_one(&schema.sql(MESSAGES), &[&(PENDING_COUNTED_MAX + 1)]).await?;
    let count = Count::up_to(counted.try_get(0)?);
    Ok(newcomers.into_iter().map(|target| finding(target, count, &left)).collect())
}

fn finding(target: &TargetConfig, count: Count, left: &[&String]) -> Finding {
    let (name, subject) = (&target.name, format!("target {}", target.name));
    let at_least = if count.at_least { "at least " } else { "" };
    let rows = match target.start {
        Start::Now => return Finding::ok(&subject, "new: it sends what is written from now on"),
        Start::Earliest => format!("{at_least}{} rows that stand in the table", count.rows),
    };
    let detail = format!("new: its first run sends {rows}");
    match left {
        // Nothing stands there that was sent before.
        _ if count.rows == 0 => Finding::ok(&subject, detail),
        [] => Finding::ok(&subject, detail),
        [old, ..] => Finding::warn(
            &subject,
            format!("{detail}; target {old} has a ledger and is not configured"),
            format!(
                "outbox-relay target rename {old} {name}, if it is the same target under another \
                 name: then it sends only what is pending"
            ),
        ),
    }
}
