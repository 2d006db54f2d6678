//! The daemon as a process: how it starts, what it says, and how it ends.

mod exit;
mod log;
mod misfit;
mod notify;
mod shutdown;
