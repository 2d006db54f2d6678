//! The tables: whose they are, whether a policy hides rows, whether somebody else fills them.

use tokio_postgres::{Client, Error};

use super::Finding;
use crate::schema::Schema;

const TABLES: &str = "
SELECT relname::text AS name, pg_get_userbyid(relowner)::text AS owner,
       pg_has_role(relowner, 'USAGE') AS owned,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
       relrowsecurity AS policies, row_security_active(pg_class.oid) AS hides,
       EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = pg_class.oid) AS subscribed
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = $1 AND relkind IN ('r', 'p')
ORDER BY relname";

pub(super) async fn look(client: &Client, schema: &Schema) -> Result<Vec<Finding>, Error> {
    let rows = client.query(TABLES, &[&schema.name()]).await?;
    let mut found = Vec::new();
    for row in &rows {
        let (name, owner): (String, String) = (row.try_get("name")?, row.try_get("owner")?);
        // Of a superuser it has been said already; it owns everything.
        if name == "message" && row.try_get("owned")? && !row.try_get::<_, bool>("superuser")? {
            found.push(Finding::warn(
                "owner",
                format!("the relay's role owns {name} (as {owner}): no guard binds an owner"),
                "outbox-relay migrate --grant-relay ROLE, and connect as that role",
            ));
        }
        if row.try_get("policies")? {
            let remedy =
                schema.sql(&format!("ALTER TABLE outbox.{name} DISABLE ROW LEVEL SECURITY"));
            found.push(if row.try_get("hides")? {
                Finding::fail(
                    "policies",
                    format!(
                        "row level security of {name} applies to the relay: every read of it fails"
                    ),
                    format!("{remedy}, or BYPASSRLS for the relay's role"),
                )
            } else {
                Finding::warn(
                    "policies",
                    format!("{name} has row level security, which the relay's role bypasses"),
                    remedy,
                )
            });
        }
        if row.try_get("subscribed")? {
            found.push(Finding::fail(
                "subscription",
                format!("{name} is filled by logical replication: its ids are drawn elsewhere"),
                "run the relay on the publisher, or take the table out of the subscription",
            ));
        }
    }
    if found.is_empty() {
        found.push(Finding::ok("tables", "no policy, no subscription, owned by another role"));
    }
    Ok(found)
}
