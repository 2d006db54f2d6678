//! Marks, as they are written.

mod aside;
mod mark;
pub(crate) mod pen;
