//! The source on real PostgreSQL: a reader with a consumer that settles at once.

mod bell;
pub(crate) mod consumer;
mod guard;
mod held;
mod hole;
mod hostile;
mod large;
mod plan;
mod read;
mod retry;
mod session;
pub(crate) mod unreadable;
