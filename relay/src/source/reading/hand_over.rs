//! What was read goes to the pipeline, in pieces that the budget has room for.

use std::sync::atomic::Ordering;

use super::Reading;
use crate::message::Message;
use crate::source::budget::Reservation;
use crate::source::error::{ReadError, SourceError};
use crate::source::hole::Progress;
use crate::source::piece::{Fetch, Pieces};
use crate::source::poll::{Meta, Read};
use crate::source::{Batch, FromSource, RetryBatch, RetryRow, Row};

impl Reading {
    /// Takes the read into account, and hands it on in pieces that the budget has room for.
    pub(super) async fn deliver(
        &mut self,
        read: Read,
        as_of: u64,
        stalled: bool,
        room: Reservation,
    ) -> Result<(), ReadError> {
        let ids: Vec<i64> = read.rows.iter().map(|(row, _)| row.id).collect();
        let Progress { mut opened, mut dead } = self.holes.read(&ids, read.cut);
        if !opened.is_empty() {
            self.lock_pace.hasten();
        }
        room.keep(read.rows.len(), read.rows.iter().map(|(_, body)| body.cost_bytes()).sum());
        // Also while the head is left alone: of what was asked for, nothing was left out.
        let caught_up = !read.cut;
        self.show_read(caught_up && !stalled);
        if read.rows.is_empty() && dead.is_empty() && caught_up == self.told_caught_up {
            return Ok(());
        }
        self.told_caught_up = caught_up;
        let mut pieces = Pieces::new(read.rows);
        loop {
            let fetch = Fetch { client: &self.client, statement: &self.poll.payloads, more: &[] };
            let piece = pieces.next(&fetch, &self.budget).await?.unwrap_or_default();
            let batch = Batch {
                as_of,
                rows: piece.into_iter().map(row).collect::<Result<_, _>>()?,
                opened: std::mem::take(&mut opened),
                dead: std::mem::take(&mut dead),
                caught_up: caught_up && pieces.is_empty(),
            };
            self.out.send(FromSource::Batch(batch)).await.map_err(|_| ReadError::Closed)?;
            if pieces.is_empty() {
                return Ok(());
            }
        }
    }

    pub(super) async fn read_retry(&mut self, room: Reservation) -> Result<(), ReadError> {
        let as_of = self.marks.load(Ordering::Acquire);
        let in_hand = self.retry_clock.take();
        let due = self.retry.read(&self.client, &in_hand);
        let due = match self.client.deadline().answers(2, due).await? {
            // Boxed, since it is rare, and large.
            Err(ReadError::Row(_)) => {
                Box::pin(self.retry.read_apart(&self.client, &in_hand)).await?
            }
            due => due?,
        };
        self.retry_clock.done(due.next_due);
        let there = due.rows.iter().filter(|(_, body)| body.cost_bytes() > 0);
        room.keep(there.count(), due.rows.iter().map(|(_, body)| body.cost_bytes()).sum());
        let mut pieces = Pieces::new(due.rows);
        loop {
            let fetch = Fetch {
                client: &self.client,
                statement: &self.retry.payloads,
                more: &[&self.retry.target],
            };
            let piece = pieces.next(&fetch, &self.budget).await?.unwrap_or_default();
            let rows =
                piece.into_iter().map(|(row, message)| RetryRow { message, ..row }).collect();
            let batch = RetryBatch { as_of, rows, next_due: due.next_due };
            self.out.send(FromSource::Retry(batch)).await.map_err(|_| ReadError::Closed)?;
            if pieces.is_empty() {
                return Ok(());
            }
        }
    }
}

fn row((meta, message): (Meta, Option<Message>)) -> Result<Row, SourceError> {
    let message = message.ok_or_else(|| SourceError::Lost {
        what: format!("message {} was deleted while it was being read", meta.id),
        error: None,
    })?;
    Ok(Row { message, held: meta.held })
}
