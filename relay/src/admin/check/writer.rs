//! Whether a commit of a writer is durable when the relay sees it.
//!
//! With `synchronous_commit = off` other sessions see a row whose commit a crash can still undo: a
//! message is sent, and its change never happened.

use tokio_postgres::{Client, Error};

use super::Finding;
use crate::schema::Schema;

// The setting of a database, a role, or a role in this database; a role counts if it may insert.
// Sessions can still set it for themselves, which nobody can see from here.
const SETTINGS: &str = "
SELECT setting.value, coalesce('role ' || setting.role, 'the database') AS whom,
       CASE WHEN setting.role IS NULL THEN format('ALTER DATABASE %I', current_database())
            WHEN setting.database = 0 THEN format('ALTER ROLE %I', setting.role)
            ELSE format('ALTER ROLE %I IN DATABASE %I', setting.role, current_database())
       END || ' SET synchronous_commit = on' AS remedy
FROM (
    SELECT setdatabase AS database, nullif(setrole, 0) AS oid, rolname::text AS role,
           split_part(item, '=', 2) AS value
    FROM pg_db_role_setting
    CROSS JOIN unnest(setconfig) AS item
    LEFT JOIN pg_roles ON pg_roles.oid = setrole
    WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
      AND split_part(item, '=', 1) = 'synchronous_commit'
) AS setting
WHERE setting.oid IS NULL OR (setting.role IS NOT NULL AND has_any_column_privilege(
    setting.oid,
    (SELECT pg_class.oid FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
     WHERE nspname = $1 AND relname = 'message'),
    'INSERT'
))
ORDER BY setting.role NULLS FIRST";

// What the server's file says, for a role that has no setting of its own: reset_val would be that of
// this session's role. 'local' waits for the disk, but for no synchronous standby.
const SERVER: &str = "
SELECT setting AS value, source IN ('default', 'configuration file', 'command line') AS of_server,
       current_setting('synchronous_standby_names') <> '' AS standbys
FROM pg_settings WHERE name = 'synchronous_commit'";

pub(super) async fn look(client: &Client, schema: &Schema) -> Result<Vec<Finding>, Error> {
    let mut found = Vec::new();
    let server = client.query_one(SERVER, &[]).await?;
    let standbys: bool = server.try_get("standbys")?;
    if server.try_get("of_server")? {
        let value: String = server.try_get("value")?;
        found.extend(finding("the server", &value, standbys, "synchronous_commit = on"));
    }
    for row in client.query(SETTINGS, &[&schema.name()]).await? {
        let (value, whom, remedy): (String, String, String) =
            (row.try_get("value")?, row.try_get("whom")?, row.try_get("remedy")?);
        found.extend(finding(&whom, &value, standbys, &remedy));
    }
    if found.is_empty() {
        found.push(Finding::ok("durability", "a commit is durable when the relay sees it"));
    }
    Ok(found)
}

fn finding(whom: &str, value: &str, standbys: bool, remedy: &str) -> Option<Finding> {
    let why = match value {
        "off" => "a crash can undo a change whose message was sent",
        "local" if standbys => "a failover can undo a change whose message was sent",
        _ => return None,
    };
    let detail = format!("synchronous_commit = {value} for {whom}: {why}");
    Some(Finding::warn("durability", detail, remedy))
}
