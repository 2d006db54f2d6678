//! Whether this relay may work on the outbox that is there.

use tokio_postgres::Client;

use super::{Schema, installed_version, newest_version};
use crate::database::DatabaseError;

// Its ids are drawn by the publisher's sequence, and rows come in the order of its commits.
const SUBSCRIBED: &str = "
SELECT EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = 'outbox.message'::regclass)";

/// What is wrong with the version that is installed, and the remedy. An older relay would write marks
/// into tables that it does not know, a newer one into tables that are not there yet.
#[must_use]
pub fn misfit(schema: &Schema, installed: Option<i32>) -> Option<(String, &'static str)> {
    let (name, newest) = (schema.name(), newest_version());
    match installed {
        None => Some((
            format!("there is no outbox in schema {name}"),
            "outbox-relay migrate, or another `schema` under [database]",
        )),
        Some(version) if version < newest => Some((
            format!("{name} has version {version}, this relay needs {newest}"),
            "outbox-relay migrate",
        )),
        Some(version) if version > newest => Some((
            format!("{name} has version {version}, this relay knows {newest}"),
            "use the newest release of outbox-relay on this database",
        )),
        Some(_) => None,
    }
}

/// Refuses a schema of another version, and a table that logical replication fills.
///
/// # Errors
/// `Configuration` with the remedy; else the database's.
pub async fn refuse_misfit(client: &Client, schema: &Schema) -> Result<(), DatabaseError> {
    let installed = installed_version(client, schema).await?;
    if let Some((reason, hint)) = misfit(schema, installed) {
        return Err(DatabaseError::Configuration { reason, hint: hint.into() });
    }
    if client.query_one(&schema.sql(SUBSCRIBED), &[]).await?.try_get(0)? {
        return Err(DatabaseError::Configuration {
            reason: "message is filled by logical replication: its ids are drawn elsewhere".into(),
            hint: "run the relay on the publisher, or take the table out of the subscription"
                .into(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_of_this_relay_fits() {
        let (schema, newest) = (Schema::default(), newest_version());
        for (installed, named) in [
            (None, "there is no outbox"),
            (Some(newest - 1), "this relay needs"),
            (Some(newest + 1), "this relay knows"),
        ] {
            let (reason, _) = misfit(&schema, installed).expect(named);
            assert!(reason.contains(named), "{reason}");
        }
        assert_eq!(misfit(&schema, Some(newest)), None);
    }
}
