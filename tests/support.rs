//! What the tests share: where the services are, and a database of each test's own.

pub(crate) mod database;
pub(crate) mod services;
pub(crate) mod session;
