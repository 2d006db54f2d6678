//! Why a database was not migrated.

use tokio_postgres::error::SqlState;

use super::MigrationSet;

/// Why a database was not migrated. Migrations that were applied before the failure stay applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The server lacks what the schema is made of.
    #[error("PostgreSQL {version} is too old")]
    ServerTooOld {
        /// What was to be applied.
        set: &'static MigrationSet,
        /// As the server prints it.
        version: String,
    },
    /// The server replays somebody else's changes.
    #[error("the server is a standby")]
    Standby,
    /// A newer release migrated this database.
    #[error("{} too new: the database has version {installed}, this program knows {newest}", set.noun)]
    TooNew {
        /// What was to be applied.
        set: &'static MigrationSet,
        /// The database's version.
        installed: i32,
        /// The program's.
        newest: i32,
    },
    /// What was applied is not what this program ships under that number.
    #[error("{} migration {version} ({name}) was applied with another checksum", set.noun)]
    Changed {
        /// What was to be applied.
        set: &'static MigrationSet,
        /// The migration's number.
        version: i32,
        /// The migration's noun.
        name: &'static str,
    },
    /// The record of a migration was removed.
    #[error(
        "{} migration {version} is not recorded, although the database has version {installed}",
        set.noun
    )]
    Missing {
        /// What was to be applied.
        set: &'static MigrationSet,
        /// The number that has no record.
        version: i32,
        /// The highest number that has one.
        installed: i32,
    },
    /// The tables are there and the record of what made them is not.
    #[error("the tables of the {} are in schema {schema}, and the record of its migrations is not", set.noun)]
    Unrecorded {
        /// What was to be applied.
        set: &'static MigrationSet,
        /// The schema.
        schema: String,
    },
    /// Something switches row level security on for new tables, and on again when it is switched off.
    #[error("row level security is switched on again for new tables of the {}: {}", set.noun, tables.join(", "))]
    Secured {
        /// What was to be applied.
        set: &'static MigrationSet,
        /// The schema.
        schema: String,
        /// The tables.
        tables: Vec<String>,
    },
    /// Somebody held a lock for longer than `lock_timeout`.
    #[error("waited too long for a lock while {step}")]
    LockTimeout {
        /// What was being done.
        step: String,
        /// The server's answer.
        source: tokio_postgres::Error,
    },
    /// The role lacks a right.
    #[error("not permitted while {step}")]
    Forbidden {
        /// What was being done.
        step: String,
        /// The server's answer.
        source: tokio_postgres::Error,
    },
    /// Any other answer of the database.
    #[error("failed while {step}")]
    Database {
        /// What was being done.
        step: String,
        /// The server's answer.
        source: tokio_postgres::Error,
    },
}

impl MigrateError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::ServerTooOld { set, .. } => {
                format!("PostgreSQL {} or newer is needed", set.server_version_min_text)
            }
            Self::Standby => "migrate on the primary; the standby follows".into(),
            Self::TooNew { set, .. } => {
                format!("use the newest release of {} on this database", set.product)
            }
            Self::Changed { .. } => "shipped migrations are never edited: use an official \
                                     release, or restore the record"
                .into(),
            Self::Missing { set, .. } => {
                format!("restore the row of {} from a backup", set.record_table)
            }
            Self::Unrecorded { set, schema } => format!(
                "the schema was restored without data and without comments: restore it without \
                 --no-comments, or with the rows of {schema}.{}; if nothing in it is needed, DROP \
                 SCHEMA {schema} CASCADE and migrate again",
                set.record_table
            ),
            Self::Secured { schema, .. } => format!(
                "let the event trigger that does it (\\dy in psql lists them) leave schema {schema} \
                 alone: grants protect these tables"
            ),
            Self::LockTimeout { .. } => "end the long transaction on these tables, or the other \
                                         migration, and run it again"
                .into(),
            Self::Forbidden { .. } => "migrate as the role that owns these tables and may create \
                                       a schema in this database"
                .into(),
            Self::Database { .. } => {
                "what was applied before stays; run it again once this is solved".into()
            }
        }
    }

    /// Whether the same run would fail again until a person changes something.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        !matches!(self, Self::LockTimeout { .. } | Self::Database { .. })
    }

    /// The database's answer to `step`, with what a person can do something about kept apart.
    pub fn database(step: impl Into<String>, source: tokio_postgres::Error) -> Self {
        let step = step.into();
        match source.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Self::LockTimeout { step, source },
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::Forbidden { step, source },
            _ => Self::Database { step, source },
        }
    }
}
