//! The connection of a command that is run as the owner of the outbox.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Config, DatabaseConfig, TlsConfig, TlsMode};
use crate::exit::Failure;
use crate::schema::{self, Schema};

/// Where the owner finds the outbox.
#[derive(Debug, clap::Args)]
pub(super) struct OwnerArgs {
    /// The owner's connection, `postgres://owner:password@host/database`; `database.url` of the
    /// configuration without it.
    #[arg(long, env = "OUTBOX_RELAY_MIGRATE_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
    /// With --url: encrypt, and verify the server's chain and name by the system's roots.
    #[arg(long, requires = "url")]
    tls: bool,
    /// With --url: the same, by the CA in this PEM file.
    #[arg(long, requires = "url", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The PostgreSQL schema that holds the outbox; `database.schema` of the configuration without it.
    #[arg(long, value_name = "NAME")]
    schema: Option<Schema>,
}

impl OwnerArgs {
    /// The schema that is named on the command line, for a command that needs no database.
    pub(super) fn into_schema(self) -> Schema {
        self.schema.unwrap_or_default()
    }

    /// The database, and the schema in it; the configuration is loaded only if it is needed.
    pub(super) fn resolve(
        self,
        load: impl FnOnce() -> Result<Config, Failure>,
    ) -> Result<(DatabaseConfig, Schema), Failure> {
        if let Some(url) = self.url {
            return Ok((at(url, self.tls, self.ca_file), self.schema.unwrap_or_default()));
        }
        let database = load()?.database;
        let configured = database.schema.parse().map_err(Failure::configuration)?;
        Ok((database, self.schema.unwrap_or(configured)))
    }
}

/// At a url of the command line: nothing else of the configuration is known.
pub(super) fn at(url: String, tls: bool, ca_file: Option<PathBuf>) -> DatabaseConfig {
    let verified = tls || ca_file.is_some();
    let mode = if verified { TlsMode::VerifyFull } else { TlsMode::Disable };
    DatabaseConfig {
        url,
        password: None,
        schema: schema::DEFAULT_SCHEMA.into(),
        tls: TlsConfig { mode, ca_file, ..TlsConfig::default() },
        connect_timeout: Duration::from_secs(10),
        lock_timeout: schema::DEFAULT_LOCK_TIMEOUT,
        // A migration may scan a large table; its locks are what is bounded.
        statement_timeout: Duration::ZERO,
    }
}
