//! What an operator asks of an outbox, on a real PostgreSQL: queries, decisions, and their output.

mod check;
mod command;
mod dead;
mod grant;
mod pooler;
mod rebuild;
mod status;
mod target;
