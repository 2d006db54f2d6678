//! The PostgreSQL schema that holds the outbox: its migrations, its doorbell.
//!
//! Its name, how it comes into the SQL texts ([`Schema::sql`]) and the migration runner are shared with the
//! receivers' half, `outbox-inbox`.

mod doorbell;
mod fit;
pub(crate) mod identity;
mod migrate;
mod outbox;
mod place;
mod print;

pub use doorbell::{Doorbell, DoorbellReport, doorbell_installed};
pub use fit::{Found, found, misfit, refuse_misfit};
pub use migrate::{Options, Report, migrate};
pub use outbox::{installed_version, newest_version};
pub use outbox_inbox::schema::{
    Applied, DEFAULT_LOCK_TIMEOUT, DEFAULT_SCHEMA, MigrateError, SCHEMA_BYTES_MAX, Schema,
    SchemaNameError,
};
pub use place::{PLACE_HINT, Place};
pub use print::print;
