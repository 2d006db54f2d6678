//! Whether the outbox is where it was when its id was made.

use tokio_postgres::{Client, Error};

use super::Finding;
use crate::schema::{PLACE_HINT, Place, Schema};

pub(super) async fn look(client: &Client, schema: &Schema) -> Result<Vec<Finding>, Error> {
    Ok(vec![match Place::read(client, schema).await?.moved() {
        Some(moved) => Finding::fail("place", moved, PLACE_HINT),
        None => Finding::ok("place", "the outbox is where its id was made"),
    }])
}
