//! Faults under a hostile writer: cells, each of which has one fault (or two at once), a relay and a
//! standby, both brokers, and a verdict for each.
//!
//! ```text
//!  arena (services of its own) ─► cell: stage + crew of relays + writer ─► fault ─► mend ─► outcome
//! ```
//! A fault is linear: strike, wait for an event, mend. Two of them run side by side on one cell.

pub(crate) mod arena;
pub(crate) mod cell;
pub(crate) mod control;
pub(crate) mod crew;
pub(crate) mod fault;
pub(crate) mod old_transaction;
pub(crate) mod outcome;
pub(crate) mod small_disk;

pub(crate) use arena::Arena;
pub(crate) use fault::Fault;
