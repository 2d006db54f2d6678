//! The one integration binary: a module per capability and per invariant.

mod config;
