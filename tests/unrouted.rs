//! Rows that no route of a target takes: recorded, told, and sent later.

mod null;
mod route;
