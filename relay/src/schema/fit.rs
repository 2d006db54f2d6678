//! Whether this relay may work on the outbox that is there.

use tokio_postgres::{Client, Error};

use super::{Schema, installed_version, newest_version};
use crate::database::DatabaseError;

/// What stands in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No outbox.
    Nothing,
    /// The tables of an outbox without their rows: a restore of the schema alone.
    Bare,
    /// An outbox whose schema was renamed: its functions and triggers use the former name.
    Renamed,
    /// An outbox of this version.
    Version(i32),
}

// `meta` has one row from its first migration on.
const IS_BARE: &str = "SELECT to_regclass('outbox.meta') IS NOT NULL";

const HAS_META: &str = "SELECT EXISTS (SELECT FROM outbox.meta)";

// The migration put the schema's name into the function's text.
const IS_RENAMED: &str = "
SELECT EXISTS (SELECT FROM pg_catalog.pg_proc
               WHERE oid = to_regprocedure('outbox.lock_key(text)') AND position($1 IN prosrc) = 0)";

// Its ids are drawn by the publisher's sequence, and rows come in the order of its commits.
const SUBSCRIBED: &str = "
SELECT EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = 'outbox.message'::regclass)";

/// Looks what stands in the schema.
///
/// # Errors
/// The database's, also when the role may not look into the schema.
pub async fn found(client: &Client, schema: &Schema) -> Result<Found, Error> {
    let asked =
        async |text| Ok(client.query_one(&schema.sql(text), &[]).await?.try_get::<_, bool>(0)?);
    let Some(version) = installed_version(client, schema).await? else {
        return Ok(if asked(IS_BARE).await? { Found::Bare } else { Found::Nothing });
    };
    if !asked(HAS_META).await? {
        return Ok(Found::Bare);
    }
    let meta = schema.sql("outbox.meta");
    let renamed = client.query_one(&schema.sql(IS_RENAMED), &[&meta]).await?.try_get(0)?;
    Ok(if renamed { Found::Renamed } else { Found::Version(version) })
}

/// What is wrong with what was found, and the remedy. An older relay would write marks into tables
/// that it does not know, a newer one into tables that are not there yet.
#[must_use]
pub fn misfit(schema: &Schema, found: Found) -> Option<(String, &'static str)> {
    let (name, newest) = (schema.name(), newest_version());
    match found {
        Found::Nothing => Some((
            format!("there is no outbox in schema {name}"),
            "outbox-relay migrate, or another `schema` under [database]",
        )),
        Found::Bare => Some((
            format!("the outbox in schema {name} was restored without its data"),
            "outbox-relay migrate, which completes it",
        )),
        Found::Renamed => Some((
            format!(
                "the schema {name} had another name when the outbox was made: its functions and triggers still use that one"
            ),
            "ALTER SCHEMA … RENAME TO the former name; an outbox cannot be renamed",
        )),
        Found::Version(version) if version < newest => Some((
            format!("{name} has version {version}, this relay needs {newest}"),
            "outbox-relay migrate",
        )),
        Found::Version(version) if version > newest => Some((
            format!("{name} has version {version}, this relay knows {newest}"),
            "use the newest release of outbox-relay on this database",
        )),
        Found::Version(_) => None,
    }
}

/// Refuses a schema of another version, and a table that logical replication fills.
///
/// # Errors
/// `Configuration` with the remedy; else the database's.
pub async fn refuse_misfit(client: &Client, schema: &Schema) -> Result<(), DatabaseError> {
    if let Some((reason, hint)) = misfit(schema, found(client, schema).await?) {
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
        for (found, named) in [
            (Found::Nothing, "there is no outbox"),
            (Found::Bare, "restored without its data"),
            (Found::Version(newest - 1), "this relay needs"),
            (Found::Version(newest + 1), "this relay knows"),
        ] {
            let (reason, _) = misfit(&schema, found).expect(named);
            assert!(reason.contains(named), "{reason}");
        }
        assert_eq!(misfit(&schema, Found::Version(newest)), None);
    }
}
