//! Relays that die without a warning: what is marked was confirmed, what comes twice is the same.

mod duplicate;
mod hang;
mod kill;
mod killer;
mod point;
mod take_over;
