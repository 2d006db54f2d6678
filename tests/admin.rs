//! What an operator asks of an outbox, on a real PostgreSQL: queries, decisions, and their output.

mod check;
mod command;
mod dead;
mod destination;
mod grant;
mod hold;
mod inbox;
mod pooler;
mod prune;
mod rebuild;
mod replay;
mod status;
mod target;
mod transport;
