//! One file a subcommand: validated input → call → print. No SQL, no protocol.

pub mod check;
pub mod dead;
pub mod hold;
pub mod identity;
pub mod inbox;
pub mod ledger;
pub mod migrate;
pub mod prune;
pub mod replay;
pub mod run;
pub mod status;
pub mod target;

mod age;
mod decision;
mod link;
mod moment;
mod output;
mod owner;
mod table;

use std::future::Future;

use anyhow::anyhow;

use crate::exit::Failure;

/// Runs a command that is done in a moment: one thread is enough.
///
/// # Errors
/// The command's.
pub fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// What a command that destroys progress answers when it was run without `--yes`.
fn unless_confirmed(yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    Err(Failure::Usage(anyhow!("nothing was changed\nhint: --yes, if that is what you want")))
}
