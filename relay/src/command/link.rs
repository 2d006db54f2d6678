//! The connection of a command that is done in a moment.

use crate::admin::{AdminError, target};
use crate::config::Config;
use crate::database::{DatabaseError, Session};
use crate::exit::Failure;
use crate::schema::Schema;

/// Connects, and names the schema.
pub(super) async fn connect(config: &Config, name: &str) -> Result<(Session, Schema), Failure> {
    let schema = config.database.schema.parse().map_err(Failure::configuration)?;
    let session = Session::connect(&config.database, name).await.map_err(in_database)?;
    Ok((session, schema))
}

/// # Errors
/// There is no such target in the outbox or in the configuration: a misspelt name must not look like a
/// target without anything to tell.
pub(super) async fn expect_target(
    session: &Session,
    schema: &Schema,
    name: &str,
    config: &Config,
) -> Result<(), Failure> {
    let configured: Vec<&str> = config.targets.iter().map(|t| t.name.as_str()).collect();
    target::expect_any(&**session, schema, name, &configured).await.map_err(in_admin)
}

/// What the administrator's part said, with the exit code it calls for.
pub(super) fn in_admin(error: AdminError) -> Failure {
    match error {
        AdminError::Database(error) => in_database(error),
        error => error.into(),
    }
}

/// A refusal that no restart mends is the configuration's.
pub(super) fn in_database(error: impl Into<DatabaseError>) -> Failure {
    match error.into() {
        error @ DatabaseError::Configuration { .. } => Failure::configuration(error),
        error => error.into(),
    }
}
