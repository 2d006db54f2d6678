//! `outbox-relay inbox …`: the receivers' half, in a consumer's own database.

mod contract;
mod doctor;
mod failures;
mod install;
mod keys;
mod maintain;
mod message;
mod place;
mod verify;

use crate::config::Config;
use crate::exit::Failure;

/// `inbox …`
#[derive(Debug, clap::Subcommand)]
pub enum InboxCommand {
    /// Install or update the inbox's schema, as its owner.
    Init(install::InitArgs),
    /// Print the inbox's schema as SQL; needs no database.
    Ddl(install::DdlArgs),
    /// Make partitions ahead, raise the horizon, remove what has expired; once.
    Maintain(maintain::MaintainArgs),
    /// Show how an inbox does.
    Stats(maintain::StatsArgs),
    /// Show what an inbox knows of a message.
    Lookup(message::LookupArgs),
    /// Say what an inbox would say of messages; nothing is claimed.
    Check(message::CheckArgs),
    /// Forget that a message was processed, so that it is processed again; it is recorded.
    Forget(message::ForgetArgs),
    /// Failed and parked messages.
    #[command(subcommand)]
    Failures(failures::FailuresCommand),
    /// Idempotency keys of requests and of calls to others.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Look at everything the inbox needs, change nothing, and name a remedy for what is wrong.
    Doctor(doctor::DoctorArgs),
    /// Count effects per message, and find those that happened twice.
    Verify(verify::VerifyArgs),
    /// Print what a consumer promises its producers, as Markdown for its documentation.
    Contract(contract::ContractArgs),
}

/// Runs one of the commands; the configuration is loaded only if it is needed.
///
/// # Errors
/// The command's.
pub async fn run(
    command: InboxCommand,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    match command {
        InboxCommand::Init(args) => install::init(args, load).await,
        InboxCommand::Ddl(args) => install::ddl(&args),
        InboxCommand::Maintain(args) => maintain::maintain(args, load).await,
        InboxCommand::Stats(args) => maintain::stats(args, load).await,
        InboxCommand::Lookup(args) => message::lookup(args, load).await,
        InboxCommand::Check(args) => message::check(args, load).await,
        InboxCommand::Forget(args) => message::forget(args, load).await,
        InboxCommand::Failures(command) => failures::run(command, load).await,
        InboxCommand::Keys(command) => keys::run(command, load).await,
        InboxCommand::Doctor(args) => doctor::run(args, load).await,
        InboxCommand::Verify(args) => verify::run(args, load).await,
        InboxCommand::Contract(args) => contract::run(&args),
    }
}
