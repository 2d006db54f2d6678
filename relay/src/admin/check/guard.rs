//! The triggers: three guards that must be there, a doorbell that should be.

use tokio_postgres::{Client, Error};

use super::Finding;
use crate::schema::{self, Schema};

/// Trigger, and what it is fired by.
const GUARDS: [(&str, &str); 3] =
    [("refuse_update", "UPDATE"), ("refuse_delete", "DELETE"), ("refuse_truncate", "TRUNCATE")];

// O: fires in ordinary sessions, A: always. D is disabled, R fires on a replica only.
const ENABLED: &str = "
SELECT tgenabled IN ('O', 'A')
FROM pg_trigger
JOIN pg_class ON pg_class.oid = tgrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = $1 AND relname = 'message' AND tgname = $2";

const PREPARED: &str = "SELECT current_setting('max_prepared_transactions')::int";

pub(super) async fn look(client: &Client, schema: &Schema) -> Result<Vec<Finding>, Error> {
    let mut found = Vec::new();
    for (trigger, event) in GUARDS {
        let row = client.query_opt(ENABLED, &[&schema.name(), &trigger]).await?;
        match row.map(|row| row.try_get::<_, bool>(0)).transpose()? {
            Some(true) => {}
            Some(false) => found.push(Finding::fail(
                "guards",
                format!("{trigger} is disabled: {event} of messages is not refused"),
                schema.sql(&format!("ALTER TABLE outbox.message ENABLE TRIGGER {trigger}")),
            )),
            None => found.push(Finding::fail(
                "guards",
                format!("{trigger} is missing: {event} of messages is not refused"),
                schema.sql(&format!(
                    "CREATE TRIGGER {trigger} BEFORE {event} ON outbox.message \
                     FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change()"
                )),
            )),
        }
    }
    if found.is_empty() {
        found.push(Finding::ok("guards", "UPDATE, DELETE and TRUNCATE are refused"));
    }
    found.push(doorbell(client, schema).await?);
    Ok(found)
}

async fn doorbell(client: &Client, schema: &Schema) -> Result<Finding, Error> {
    if schema::doorbell_installed(client, schema).await? {
        return Ok(Finding::ok("doorbell", "a commit wakes an idle relay"));
    }
    let prepared: i32 = client.query_one(PREPARED, &[]).await?.try_get(0)?;
    Ok(match prepared {
        0 => {
            Finding::warn("doorbell", "not installed: an idle relay polls", "outbox-relay migrate")
        }
        prepared => Finding::warn(
            "doorbell",
            format!(
                "not installed: an idle relay polls, since max_prepared_transactions = {prepared} \
                 and a transaction that notified cannot be prepared"
            ),
            "outbox-relay migrate --doorbell on, if no writer uses PREPARE TRANSACTION",
        ),
    })
}
