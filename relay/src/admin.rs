//! What an operator asks of an outbox: queries and decisions, no printing.

pub mod backend;
pub mod check;
pub mod dead;
pub mod give_up;
pub mod hold;
pub mod identity;
pub mod inbox;
mod lossy;
pub mod moment;
mod overlap;
pub mod parked;
pub mod prune;
pub mod rebuild;
pub mod replay;
pub mod status;
pub mod target;
pub mod unrouted;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
use tokio_postgres::{Error, Transaction};

use crate::admin::backend::Backend;
use crate::database::DatabaseError;

/// Why an operator's request was not carried out. Nothing was changed, but for [`AdminError::Partly`].
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No ledger bears this name.
    #[error("there is no target {name:?} in the outbox\nhint: {hint}")]
    UnknownTarget {
        /// As it was asked for.
        name: String,
        /// The names there are.
        hint: String,
    },
    /// A relay works on the target.
    #[error("a relay holds the lease of target {target:?}: {}\nhint: stop that relay first", known(.holder.as_ref()))]
    Leased {
        /// The target.
        target: String,
        /// Who holds it; `None` if it let go while it was looked up.
        holder: Option<Backend>,
    },
    /// Another target has the name, or left rows under it.
    #[error(
        "there is a target {name:?} already: it has rows in {table}\nhint: another name; or `outbox-relay target remove {name} --purge-dead`, if nothing of it is needed"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The first table that has rows of it.
        table: String,
    },
    /// No target can be called like that.
    #[error(
        "{name:?} is no name of a target\nhint: a-z, 0-9 and _, beginning with a letter, at most 63"
    )]
    NotAName {
        /// As it was asked for.
        name: String,
    },
    /// A relay works on this database.
    #[error("a relay works on this database: {}\nhint: stop the relays of this database first", known(.holder.as_ref()))]
    InUse {
        /// Who holds one of its locks; `None` if it let go while it was looked up.
        holder: Option<Backend>,
    },
    /// The role may not decide about the identity.
    #[error(
        "the identity of the outbox is decided by its owner, {owner}\nhint: connect as that role: --url, as for `outbox-relay migrate`"
    )]
    NotOwner {
        /// The role that owns it.
        owner: String,
    },
    /// The id of a dead message was drawn again.
    #[error(
        "id {id} of the dead message of target {target} belongs to another message by now: the identity went back\nhint: insert its content as a new message (`outbox-relay dead show`), then `outbox-relay dead discard`"
    )]
    IdTaken {
        /// The target.
        target: String,
        /// The id.
        id: i64,
    },
    /// Somebody else holds a lock for longer than `lock_timeout`.
    #[error(
        "another session holds the outbox for longer than lock_timeout\nhint: try again; `outbox-relay status` names the keeper"
    )]
    Busy,
    /// A command that works in pieces came to an end before its last one.
    #[error("{done} before this\nhint: {hint}")]
    Partly {
        /// What is done, and stays.
        done: String,
        /// How to go on.
        hint: String,
        /// What ended it.
        source: Box<AdminError>,
    },
    /// The database refused, or was not reachable.
    #[error(transparent)]
    Database(DatabaseError),
}

impl From<tokio_postgres::Error> for AdminError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE) => Self::Busy,
            _ => Self::Database(error.into()),
        }
    }
}

fn known(holder: Option<&Backend>) -> String {
    holder.map_or_else(|| "it has just ended".to_owned(), ToString::to_string)
}

/// Ids that an answer names.
const IDS_NAMED_MAX: usize = 100;

/// The lowest of the ids, ascending.
fn named(mut ids: Vec<i64>) -> Vec<i64> {
    ids.sort_unstable();
    ids.truncate(IDS_NAMED_MAX);
    ids
}

async fn end(transaction: Transaction<'_>, dry_run: bool) -> Result<(), Error> {
    if dry_run { transaction.rollback().await } else { transaction.commit().await }
}

/// A time as people and programs read it, in UTC to the second.
#[must_use]
pub fn rfc3339(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC).replace_nanosecond(0).unwrap_or(at);
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}
