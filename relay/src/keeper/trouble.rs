//! What keeps a part of the keeper's work from being done: said once, and written down for `check` and
//! `status`, which have nothing but the database.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Error, GenericClient};

use crate::database::{describe, remedy};
use crate::schema::Schema;

/// A part of the keeper's work, as its row in `outbox.trouble` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The look for targets that have no ledger yet.
    Newcomers,
    /// Moving the floor, and deleting below it.
    Retention,
    /// Deleting what was kept below the floor.
    Kept,
    /// Removing old dead messages.
    Dead,
    /// The sweep.
    Sweep,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::Newcomers => "newcomers",
            Self::Retention => "retention",
            Self::Kept => "kept",
            Self::Dead => "dead",
            Self::Sweep => "sweep",
        }
    }
}

/// One trouble, for people.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Trouble {
    /// Which part of the work.
    pub part: String,
    /// Since when, in seconds.
    pub age_s: f64,
    /// What the database said.
    pub reason: String,
    /// What the operator can do.
    pub hint: Option<String>,
}

/// The troubles of one keeper.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    known: BTreeMap<Part, Known>,
    /// The table says something else.
    unwritten: bool,
}

#[derive(Debug)]
struct Known {
    reason: String,
    hint: Option<String>,
}

impl Troubles {
    /// Of a keeper that was just elected: what its predecessor wrote is void.
    pub(super) fn new() -> Self {
        Self { known: BTreeMap::new(), unwritten: true }
    }

    /// How many parts are kept from being done.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// A part failed; `row`: the row that was refused, if it is known.
    pub(super) fn met(&mut self, part: Part, error: &Error, row: Option<i64>) {
        let reason = match row {
            Some(id) => format!("row {id} is left out: {}", describe(error)),
            None => describe(error),
        };
        // By its code and its culprit, so that a second row is no news.
        let of_rows = |known: &Known| row.is_some() && known.reason.starts_with("row ");
        match self.known.get(&part) {
            Some(known) if known.reason == reason || of_rows(known) => return,
            _ => {}
        }
        let hint = remedy(error).map(|hint| hint.into_owned());
        tracing::warn!(
            part = part.as_str(),
            error = reason,
            hint = hint.as_deref(),
            "the keeper goes on without a part of its work"
        );
        self.known.insert(part, Known { reason, hint });
        self.unwritten = true;
    }

    /// A part is done, and no row of it is left out.
    pub(super) fn over(&mut self, part: Part) {
        if self.known.remove(&part).is_some() {
            tracing::info!(part = part.as_str(), "the keeper does all of its work again");
            self.unwritten = true;
        }
    }

    /// Writes down what has changed. What cannot be written now is written later.
    pub(super) async fn write(&mut self, client: &Client, schema: &Schema) -> Result<(), Error> {
        if !self.unwritten {
            return Ok(());
        }
        let of = |field: fn(&Known) -> Option<String>| self.known.values().map(field).collect();
        let parts: Vec<&str> = self.known.keys().map(|part| part.as_str()).collect();
        let reasons: Vec<Option<String>> = of(|known| Some(known.reason.clone()));
        let hints: Vec<Option<String>> = of(|known| known.hint.clone());
        client.execute(&schema.sql(WRITE), &[&parts, &reasons, &hints]).await?;
        self.unwritten = false;
        Ok(())
    }
}

const WRITE: &str = "
WITH over AS (
    DELETE FROM outbox.trouble WHERE part <> ALL ($1::text[])
)
INSERT INTO outbox.trouble (part, reason, hint)
SELECT part, reason, hint FROM unnest($1::text[], $2::text[], $3::text[]) AS t (part, reason, hint)
ON CONFLICT (part) DO UPDATE SET reason = excluded.reason, hint = excluded.hint";

const READ: &str = "
SELECT part, extract(epoch FROM now() - since)::float8 AS age, reason, hint
FROM outbox.trouble ORDER BY part";

/// What the keeper wrote down.
///
/// # Errors
/// The database's.
pub async fn read(client: &impl GenericClient, schema: &Schema) -> Result<Vec<Trouble>, Error> {
    let rows = client.query(&schema.sql(READ), &[]).await?;
    let trouble = |row: &tokio_postgres::Row| {
        Ok(Trouble {
            part: row.try_get("part")?,
            age_s: row.try_get("age")?,
            reason: row.try_get("reason")?,
            hint: row.try_get("hint")?,
        })
    };
    rows.iter().map(trouble).collect()
}
