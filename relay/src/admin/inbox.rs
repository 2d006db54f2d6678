//! What an operator asks of a consumer's inbox: queries and decisions, no printing.

pub mod doctor;
pub mod failure;
pub mod key;
pub mod lookup;
pub mod verify;
