//! The keeper on a real PostgreSQL: what retention deletes and never deletes, what the sweep finds,
//! who is elected.

mod dead;
mod election;
mod horizon;
mod newcomer;
pub(crate) mod outbox;
mod race;
mod refused;
mod retention;
mod sweep;
mod watermark;
