//! The daemon as a process: how it starts, what it says, and how it ends.

mod exit;
pub(crate) mod http;
mod log;
mod misfit;
mod notify;
mod refused;
mod shutdown;
mod signal;
