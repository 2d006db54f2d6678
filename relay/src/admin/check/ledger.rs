//! Ledgers and the configuration: does each have its counterpart, and does the identity fit?

use std::time::Duration;

use tokio_postgres::{Client, Error};

use super::Finding;
use crate::keeper::horizon::{self, Held};
use crate::schema::Schema;

pub(super) async fn look(
    client: &Client,
    schema: &Schema,
    targets: &[String],
) -> Result<Vec<Finding>, Error> {
    let horizon = horizon::read(client, schema, Duration::ZERO).await?;
    let mut found = Vec::new();
    for ledger in &horizon.ledgers {
        if !targets.contains(&ledger.target) {
            let name = &ledger.target;
            found.push(Finding::warn(
                "ledgers",
                format!(
                    "target {name} has a ledger and is not configured: it holds retention back"
                ),
                format!("outbox-relay target remove {name}, or configure [target.{name}]"),
            ));
        }
    }
    for name in targets {
        if horizon.ledgers.iter().all(|ledger| ledger.target != *name) {
            found.push(Finding::ok(
                "ledgers",
                format!("target {name} is new: its first run makes it"),
            ));
        }
    }
    if let Held::IdentityWentBack { last_id, target } = horizon.limit().held {
        let who = match target {
            Some(target) => format!("the ledger of {target} knows"),
            None => "retention has passed".to_owned(),
        };
        found.push(Finding::fail(
            "identity",
            format!("the last id drawn is {last_id}, and {who} higher ones"),
            schema.sql(
                "ALTER TABLE outbox.message ALTER id RESTART WITH an id above all that were used, \
                 then outbox-relay ledger rebuild for each target",
            ),
        ));
    }
    if found.is_empty() {
        found.push(Finding::ok("ledgers", "one for each configured target"));
    }
    Ok(found)
}
