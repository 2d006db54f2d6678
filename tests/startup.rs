//! One wrong thing at the start stops one thing: what waits, what stops, and what goes on beside it.

mod database;
mod kafka;
mod neighbour;
mod rabbitmq;
mod rotation;
