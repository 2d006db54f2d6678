//! Faults under the hostile writer, the short form: some cells of `./dev chaos`, one at a time and
//! with a fixed seed, and the relays that are wrong on purpose.

mod control;
mod short;
