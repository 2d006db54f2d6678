//! Marks, as they are written.

mod aside;
mod mark;
mod pen;
