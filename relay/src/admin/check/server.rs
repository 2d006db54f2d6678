//! The server: version, role in replication, what a crash of it may lose.

use tokio_postgres::{Client, Error};

use super::Finding;

/// 14.0 could lose index entries.
const VERSION_MIN: i32 = 140_001;

const SERVER: &str = "
SELECT current_setting('server_version_num')::int AS number,
       current_setting('server_version') AS version,
       pg_is_in_recovery() AS standby,
       current_setting('fsync')::bool AS fsync,
       current_setting('synchronous_standby_names') AS synchronous_standbys,
       current_user::text AS role,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
       pg_has_role('pg_read_all_stats', 'USAGE') AS reads_stats";

pub(super) async fn look(client: &Client) -> Result<Vec<Finding>, Error> {
    let row = client.query_one(SERVER, &[]).await?;
    let version: String = row.try_get("version")?;
    let role: String = row.try_get("role")?;
    let mut found = vec![if row.try_get::<_, i32>("number")? < VERSION_MIN {
        Finding::fail("server", format!("PostgreSQL {version}"), "use PostgreSQL 14.1 or newer")
    } else {
        Finding::ok("server", format!("PostgreSQL {version}"))
    }];
    if row.try_get("standby")? {
        found.push(Finding::fail(
            "standby",
            "the server is in recovery: nothing can be settled there",
            "let `url` under [database] lead to the primary",
        ));
    }
    if !row.try_get::<_, bool>("fsync")? {
        found.push(Finding::warn(
            "fsync",
            "off: a crash of the machine may lose committed messages, or the whole database",
            "fsync = on",
        ));
    }
    let standbys: String = row.try_get("synchronous_standbys")?;
    found.push(Finding::ok(
        "replication",
        match standbys.as_str() {
            "" => "no synchronous standby: a failover may lose what was committed last".to_owned(),
            names => format!("synchronous standbys: {names}"),
        },
    ));
    if row.try_get("superuser")? {
        found.push(Finding::warn(
            "role",
            format!("the relay connects as {role}, a superuser"),
            "outbox-relay migrate --grant-relay ROLE, and connect as that role",
        ));
    }
    if !row.try_get::<_, bool>("reads_stats")? {
        found.push(Finding::warn(
            "statistics",
            "only the pid of a session that keeps a hole open can be named",
            format!("GRANT pg_read_all_stats TO {role}"),
        ));
    }
    Ok(found)
}
