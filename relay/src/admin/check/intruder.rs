//! Sessions that hold a lock of the relays' and are none of theirs.

use tokio_postgres::{Client, Error};

use super::Finding;
use crate::admin::backend;
use crate::schema::Schema;

pub(super) async fn look(
    client: &Client,
    schema: &Schema,
    targets: &[String],
) -> Result<Vec<Finding>, Error> {
    let names = targets.iter().map(String::as_str);
    let intruders = backend::intruders(client, schema, names).await?;
    if intruders.is_empty() {
        return Ok(vec![Finding::ok("locks", "held by no others than relays")]);
    }
    let finding = |intruder: &backend::Intruder| {
        Finding::fail("locks", intruder.to_string(), intruder.remedy())
    };
    Ok(intruders.iter().map(finding).collect())
}
