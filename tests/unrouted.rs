//! Rows that no route of a target takes: recorded, told, and sent later.

mod journey;
mod keeper;
mod mark;
mod null;
mod route;
mod seen;
