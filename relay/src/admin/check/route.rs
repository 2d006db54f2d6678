//! Routes: does a topic go nowhere?

use tokio_postgres::{Client, Error};

use super::Finding;
use crate::admin::unrouted::{Untaken, routing};
use crate::schema::Schema;

/// Topics that are named.
const TOPICS_MAX: usize = 10;

pub(super) async fn look(client: &Client, schema: &Schema) -> Result<Vec<Finding>, Error> {
    let subject = "routes";
    let routing = routing(client, schema).await?;
    // While the routes of a target are unknown nothing is said: it may take what the others do not.
    let untaken = routing.untaken().unwrap_or_default();
    let found = |untaken: &Untaken| {
        Finding::warn(
            subject,
            format!("no target takes {untaken}: its messages are settled and go nowhere"),
            "is the topic misspelt? else add a route, then outbox-relay replay --unrouted",
        )
    };
    let mut findings: Vec<Finding> = untaken.iter().take(TOPICS_MAX).map(found).collect();
    if untaken.len() > TOPICS_MAX {
        let more = untaken.len() - TOPICS_MAX;
        findings.push(Finding::warn(
            subject,
            format!("and {more} more topics that no target takes"),
            "outbox-relay status --json names them",
        ));
    }
    Ok(findings)
}
