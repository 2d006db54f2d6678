//! The one integration binary: real services, started by `./dev test`.

mod schema;
mod support;
