//! What the tests of the inbox stand on; shared with the relay's where it is the same.

#[path = "../support/patience.rs"]
pub(crate) mod patience;
#[path = "../support/services.rs"]
#[allow(dead_code, reason = "the relay's tests use the rest")]
pub(crate) mod services;
#[path = "../support/session.rs"]
pub(crate) mod session;

pub(crate) mod database;
pub(crate) mod id;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod meter;
