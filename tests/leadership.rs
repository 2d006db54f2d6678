//! Who leads: fences, take-overs, sharing.

mod permission;
