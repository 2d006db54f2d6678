//! The PostgreSQL schema that holds the outbox: its migrations, its doorbell.
//!
//! Its name, and how it comes into the SQL texts, is shared with the receivers' half:
//! [`Schema::sql`] of `outbox-inbox`.

mod doorbell;
mod fit;
pub(crate) mod identity;
mod migrate;
mod migration;
mod print;

pub use doorbell::{Doorbell, DoorbellReport, doorbell_installed};
pub use fit::{misfit, refuse_misfit};
pub use migrate::{
    Applied, DEFAULT_LOCK_TIMEOUT, MigrateError, Options, Report, installed_version, migrate,
};
pub use migration::newest_version;
pub use outbox_inbox::schema::{DEFAULT_SCHEMA, SCHEMA_BYTES_MAX, Schema, SchemaNameError};
pub use print::print;
