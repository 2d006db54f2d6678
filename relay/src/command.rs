//! One file a subcommand: validated input → call → print. No SQL, no protocol.

pub mod migrate;
pub mod run;

use std::future::Future;

use crate::exit::Failure;

/// Runs a command that is done in a moment: one thread is enough.
///
/// # Errors
/// The command's.
pub fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}
