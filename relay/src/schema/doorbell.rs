//! Whether a commit rings: the trigger that `outbox.install_doorbell` puts on the message table.

use serde::Serialize;
use tokio_postgres::GenericClient;

use super::Schema;

/// What `migrate` is asked to do about the doorbell; later runs that are asked nothing do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doorbell {
    /// Installed, except where `max_prepared_transactions > 0`: a transaction that notified
    /// cannot be prepared, so a writer's `PREPARE TRANSACTION` would fail whenever the relay is idle.
    Auto,
    /// Installed.
    On,
    /// Left out, or disabled: the relay polls.
    Off,
}

impl Doorbell {
    /// The argument of `outbox.install_doorbell`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// What became of the doorbell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoorbellReport {
    /// Whether commits ring from now on.
    pub installed: bool,
    /// Whether that is new.
    pub changed: bool,
    /// Why `auto` left it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// Whether the trigger is there and enabled. Needs no right but to connect.
///
/// # Errors
/// The database's.
pub async fn doorbell_installed(
    client: &impl GenericClient,
    schema: &Schema,
) -> Result<bool, tokio_postgres::Error> {
    let text = "SELECT EXISTS (
            SELECT FROM pg_catalog.pg_trigger
            JOIN pg_catalog.pg_class ON pg_class.oid = pg_trigger.tgrelid
            JOIN pg_catalog.pg_namespace ON pg_namespace.oid = pg_class.relnamespace
            WHERE nspname = $1 AND relname = 'message' AND tgname = 'doorbell' AND tgenabled <> 'D'
        )";
    client.query_one(text, &[&schema.name()]).await?.try_get(0)
}

/// Installs or disables the trigger as `mode` says, or as it was last said. The caller's transaction holds the migration lock.
pub(super) async fn install(
    client: &impl GenericClient,
    schema: &Schema,
    mode: Option<Doorbell>,
) -> Result<DoorbellReport, tokio_postgres::Error> {
    let before = doorbell_installed(client, schema).await?;
    let text = schema.sql("SELECT outbox.install_doorbell($1)");
    let installed: bool =
        client.query_one(&text, &[&mode.map(Doorbell::as_str)]).await?.try_get(0)?;
    let text = schema.sql("SELECT doorbell = 'auto' FROM outbox.meta");
    let auto: bool = client.query_one(&text, &[]).await?.try_get(0)?;
    let reason = (auto && !installed).then_some(
        "max_prepared_transactions > 0, and a transaction that notified cannot be prepared; \
         the relay polls instead (--doorbell on, if no writer uses PREPARE TRANSACTION)",
    );
    Ok(DoorbellReport { installed, changed: installed != before, reason })
}
