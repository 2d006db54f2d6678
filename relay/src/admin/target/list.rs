//! `target list`: which targets there are, in the outbox and in the configuration.

use serde::Serialize;
use time::OffsetDateTime;
use tokio_postgres::{Error, GenericClient};

use crate::admin::backend::{self, Backend};
use crate::schema::Schema;

/// One target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// It stands in the configuration that this command was given.
    pub configured: bool,
    /// It has a ledger. One that is only configured has none until a relay has run.
    pub started: bool,
    /// The last mark.
    #[serde(with = "time::serde::rfc3339::option")]
    pub marked_at: Option<OffsetDateTime>,
    /// The session that holds its lease.
    pub leader: Option<Backend>,
}

const LIST: &str = "
SELECT name, ledger.target IS NOT NULL AS started, ledger.marked_at, name = ANY ($1) AS configured
FROM (SELECT target FROM outbox.ledger UNION SELECT unnest($1::text[])) AS known (name)
LEFT JOIN outbox.ledger ON ledger.target = name
ORDER BY name";

/// Every target that has a ledger or is configured, by name.
///
/// # Errors
/// The database's.
pub async fn list(
    client: &impl GenericClient,
    schema: &Schema,
    configured: &[&str],
) -> Result<Vec<Listed>, Error> {
    let mut listed = Vec::new();
    for row in client.query(&schema.sql(LIST), &[&configured]).await? {
        let name: String = row.try_get("name")?;
        listed.push(Listed {
            leader: backend::lock_holder(client, schema, &name).await?,
            name,
            configured: row.try_get("configured")?,
            started: row.try_get("started")?,
            marked_at: row.try_get("marked_at")?,
        });
    }
    Ok(listed)
}
