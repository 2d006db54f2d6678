//! The command line: what can be asked, nothing of how it is done.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::command;

/// A transactional outbox relay: PostgreSQL to RabbitMQ and Kafka.
///
/// Exit codes: 0 ok, 1 failed (try again), 2 wrong usage, 78 configuration (a person must act).
#[derive(Debug, Parser)]
#[command(name = "outbox-relay", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(
        long,
        short,
        global = true,
        env = "OUTBOX_RELAY_CONFIG",
        default_value = "/etc/outbox-relay/relay.toml",
        value_name = "FILE"
    )]
    pub config: PathBuf,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Publish the outbox until told to stop.
    Run,
    /// Install or update the outbox's schema (as its owner), or print it.
    Migrate(command::migrate::MigrateArgs),
}
