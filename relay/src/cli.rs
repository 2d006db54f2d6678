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
    /// Look at everything the relay needs, change nothing, and name a remedy for what is wrong.
    Check(command::check::CheckArgs),
    /// Show what each target has pending, in retry and dead, and who keeps holes open.
    Status(command::status::StatusArgs),
    /// Messages that were given up.
    #[command(subcommand)]
    Dead(command::dead::DeadCommand),
    /// Keys and destinations that wait.
    #[command(subcommand)]
    Hold(command::hold::HoldCommand),
    /// Send settled messages to one target once more, under the same message ids.
    Replay(command::replay::ReplayArgs),
    /// Delete what every target has settled, now.
    Prune(command::prune::PruneArgs),
    /// Targets in the database.
    #[command(subcommand)]
    Target(command::target::TargetCommand),
    /// The identity of an outbox that was copied or moved (as its owner).
    #[command(subcommand)]
    Identity(command::identity::IdentityCommand),
    /// The record of what is settled.
    #[command(subcommand)]
    Ledger(command::ledger::LedgerCommand),
    /// The receivers' half: the inbox in a consumer's own database.
    #[command(subcommand)]
    Inbox(command::inbox::InboxCommand),
}
