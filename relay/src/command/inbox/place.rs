//! Which inbox a command is about: one of the configuration's, or at a url.

use std::path::PathBuf;

use anyhow::anyhow;

use crate::command::{link, owner};
use crate::config::{Config, InboxConfig, default};
use crate::database::Session;
use crate::exit::Failure;
use crate::schema::Schema;

/// Where the inbox is.
#[derive(Debug, clap::Args)]
pub(super) struct PlaceArgs {
    /// The inbox `[inbox.NAME]` of the configuration; not needed if there is one only.
    #[arg(long, value_name = "NAME", conflicts_with = "url")]
    inbox: Option<String>,
    /// The consumer's database, `postgres://user:password@host/database`: no configuration is needed.
    #[arg(long, env = "OUTBOX_RELAY_INBOX_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
    /// With --url: encrypt, and verify the server's chain and name by the system's roots.
    #[arg(long, requires = "url")]
    tls: bool,
    /// With --url: the same, by the CA in this PEM file.
    #[arg(long, requires = "url", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// With --url: the schema that holds the inbox.
    #[arg(long, requires = "url", value_name = "NAME")]
    schema: Option<Schema>,
}

impl PlaceArgs {
    /// Whether no configuration is needed.
    pub(super) fn has_url(&self) -> bool {
        self.url.is_some()
    }

    /// What is configured for it; for a url, the defaults.
    pub(super) fn inbox(
        self,
        load: impl FnOnce() -> Result<Config, Failure>,
    ) -> Result<InboxConfig, Failure> {
        if let Some(url) = self.url {
            let mut database = owner::at(url, self.tls, self.ca_file);
            database.schema = self.schema.unwrap_or_default().name().to_owned();
            return Ok(InboxConfig {
                name: "inbox".to_owned(),
                database,
                retention: default::DEFAULT_INBOX_RETENTION,
                ahead: default::DEFAULT_INBOX_AHEAD,
                interval: default::DEFAULT_INBOX_INTERVAL,
                detach_timeout: default::DEFAULT_INBOX_DETACH_TIMEOUT,
            });
        }
        let mut inboxes = load()?.inboxes;
        let names: Vec<_> = inboxes.iter().map(|inbox| inbox.name.clone()).collect();
        let chosen = match &self.inbox {
            Some(name) => inboxes.iter().position(|inbox| inbox.name == *name),
            None => (inboxes.len() == 1).then_some(0),
        };
        match chosen {
            Some(index) => Ok(inboxes.swap_remove(index)),
            None => Err(Failure::Usage(anyhow!(
                "which inbox? configured: {}\nhint: --inbox NAME, or --url",
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            ))),
        }
    }

    /// Connects, and names the schema.
    pub(super) async fn connect(
        self,
        load: impl FnOnce() -> Result<Config, Failure>,
    ) -> Result<(Session, Schema), Failure> {
        connect(&self.inbox(load)?).await
    }
}

/// Connects, and names the schema.
pub(super) async fn connect(inbox: &InboxConfig) -> Result<(Session, Schema), Failure> {
    let schema = inbox.database.schema.parse().map_err(Failure::configuration)?;
    let name = crate::inbox::APPLICATION_NAME;
    let session = Session::connect(&inbox.database, name).await.map_err(link::in_database)?;
    Ok((session, schema))
}
