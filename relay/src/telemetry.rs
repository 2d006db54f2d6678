//! What the relay tells about itself.

pub mod log;
pub mod metric;
pub mod recorder;
#[cfg(test)]
mod rules;
