//! What one keeper knows of its work, from its election to the loss of its session.

use std::time::Instant;

use tokio_postgres::{Client, Error};

use super::horizon::Held;
use super::kept;
use super::meter::Meter;
use super::spared::Spared;
use super::trouble::{Part, Troubles};
use crate::config::RetentionConfig;
use crate::database::{DatabaseError, Deadline, ends_session};
use crate::schema::Schema;

/// The keeper's memory.
pub(super) struct Work {
    /// What was last said of the floor.
    pub(super) told: Held,
    /// Where the next piece of `kept` begins.
    pub(super) kept_from: i64,
    pub(super) retention: Spared,
    pub(super) kept: Spared,
    pub(super) dead: Spared,
    troubles: Troubles,
    /// The rows of `kept` were all looked at, none of them left out.
    kept_clean: bool,
}

impl Work {
    pub(super) fn new(config: &RetentionConfig) -> Self {
        let spared = || Spared::new(config.delete_rows_max, config.interval);
        Self {
            told: Held::Nothing,
            kept_from: 0,
            retention: spared(),
            kept: spared(),
            dead: spared(),
            troubles: Troubles::new(),
            kept_clean: true,
        }
    }

    /// What a part came to. A statement that fails stops its part alone; the session's end stops all.
    pub(super) fn part<T>(
        &mut self,
        part: Part,
        outcome: Result<T, Error>,
    ) -> Result<Option<T>, DatabaseError> {
        match outcome {
            Ok(done) => {
                self.troubles.over(part);
                Ok(Some(done))
            }
            Err(error) if ends_session(&error) => Err(error.into()),
            Err(error) => {
                self.troubles.met(part, &error, None);
                Ok(None)
            }
        }
    }

    /// A row is left out of a part.
    pub(super) fn left_out(&mut self, part: Part, error: &Error, id: i64) {
        self.troubles.met(part, error, Some(id));
        self.kept_clean &= part != Part::Kept;
    }

    /// A piece of `kept` was looked at; after the last one the next pass begins.
    pub(super) fn kept_passed(&mut self, piece: &kept::Piece) {
        self.kept_from = piece.next.unwrap_or(0);
        if piece.next.is_none() {
            if self.kept_clean && self.kept.ids().is_empty() {
                self.troubles.over(Part::Kept);
            }
            self.kept_clean = true;
        }
    }

    /// Writes the troubles down, and sees whether rows that were left out are to be tried again.
    pub(super) async fn write(
        &mut self,
        client: &Client,
        schema: &Schema,
        deadline: Deadline,
        meter: &Meter,
    ) -> Result<(), DatabaseError> {
        let now = Instant::now();
        for spared in [&mut self.retention, &mut self.kept, &mut self.dead] {
            spared.try_again(now);
        }
        meter.troubles(self.troubles.len());
        match deadline.answer(self.troubles.write(client, schema)).await? {
            Err(error) if ends_session(&error) => Err(error.into()),
            Err(error) => {
                // Handled here: they stand in the log, and the next round tries again.
                tracing::debug!(%error, "the keeper's troubles were not written down");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}
