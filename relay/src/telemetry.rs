//! What the relay tells about itself.

pub mod log;
