//! Completes what a read showed: fetches large payloads in pieces that the budget has room for.
//!
//! Rows are immutable, so a payload that is read later is the payload that was seen. Each piece is
//! handed on before the next one waits for room: what it holds can then leave.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::budget::Budget;
use super::column::{Body, Large};
use super::error::{ReadError, classify};
use crate::database::Session;
use crate::message::Message;

/// The pause before a fetch that found the table locked is made again.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Rows of one read, in order, that may lack their payloads.
pub(super) struct Pieces<T> {
    rest: VecDeque<(T, Body)>,
}

/// How large payloads are read: `(id, payload)` by `$1 int8[]`.
pub(super) struct Fetch<'a> {
    pub(super) client: &'a Session,
    pub(super) statement: &'a Statement,
    /// Parameters after the ids.
    pub(super) more: &'a [&'a (dyn ToSql + Sync)],
}

impl<T> Pieces<T> {
    pub(super) fn new(rows: Vec<(T, Body)>) -> Self {
        Self { rest: rows.into() }
    }

    /// Whether everything has been handed on.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next rows whose payloads fit, at least one; `None` at the end. A payload that is not there
    /// any more makes its row a `None`, and costs nothing.
    pub(super) async fn next(
        &mut self,
        fetch: &Fetch<'_>,
        budget: &Budget,
    ) -> Result<Option<Vec<(T, Option<Message>)>>, ReadError> {
        let (mut piece, mut large) = (Vec::new(), Vec::new());
        while let Some((_, body)) = self.rest.front() {
            if let Body::Large(large) = body {
                let bytes = large.payload_bytes;
                if !budget.try_large(bytes) {
                    if !piece.is_empty() {
                        break;
                    }
                    budget.large(bytes).await;
                }
            }
            let Some((row, body)) = self.rest.pop_front() else { break };
            piece.push((
                row,
                match body {
                    Body::Ready(message) => Some(message),
                    Body::Gone => None,
                    Body::Large(body) => {
                        large.push((piece.len(), body));
                        None
                    }
                },
            ));
        }
        if !large.is_empty() {
            let messages = fetch.read(&large).await?;
            for ((at, body), message) in large.into_iter().zip(messages) {
                if message.is_none() {
                    budget.release(1, body.head_bytes + body.payload_bytes);
                }
                piece[at].1 = message;
            }
        }
        Ok((!piece.is_empty()).then_some(piece))
    }
}

impl Fetch<'_> {
    async fn read(&self, large: &[(usize, Large)]) -> Result<Vec<Option<Message>>, ReadError> {
        loop {
            match self.client.deadline().answer(self.try_read(large)).await? {
                Ok(messages) => return Ok(messages),
                // The read cannot be made again, part of it has been handed on: the fetch can.
                Err(ReadError::Busy(error)) => {
                    tracing::warn!(%error, "reading large payloads: busy, trying again");
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_read(&self, large: &[(usize, Large)]) -> Result<Vec<Option<Message>>, ReadError> {
        let failed = |error| classify("reading large payloads", error);
        let ids: Vec<i64> = large.iter().map(|(_, body)| body.id).collect();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&ids];
        parameters.extend_from_slice(self.more);
        let parameters = parameters.into_iter().map(|parameter| parameter as &dyn ToSql);
        let rows = self.client.query_raw(self.statement, parameters).await.map_err(failed)?;
        pin_mut!(rows);
        let mut messages: Vec<Option<Message>> = ids.iter().map(|_| None).collect();
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let id: i64 = row.get(0);
            if let Some(at) = ids.iter().position(|&wanted| wanted == id) {
                let payload: Option<&[u8]> = row.get(1);
                messages[at] = Some(large[at].1.complete(payload.unwrap_or_default())?);
            }
        }
        Ok(messages)
    }
}
