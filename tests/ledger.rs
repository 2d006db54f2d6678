//! Marks, as they are written.

mod mark;
