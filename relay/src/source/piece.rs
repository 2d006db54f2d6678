//! Completes what a read showed: fetches large payloads in pieces that the budget has room for.
//!
//! Rows are immutable, so a payload that is read later is the payload that was seen. Each piece is
//! handed on before the next one waits for room: what it holds can then leave.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::apart::read_apart;
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
                Err(ReadError::Row(_)) => return Box::pin(self.read_apart(large)).await,
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
        let failed = |error| classify(WHAT, error);
        let ids: Vec<i64> = large.iter().map(|(_, body)| body.id).collect();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&ids];
        parameters.extend_from_slice(self.more);
        let parameters = parameters.into_iter().map(|parameter| parameter as &dyn ToSql);
        let rows = self.client.query_raw(self.statement, parameters).await.map_err(failed)?;
        pin_mut!(rows);
        let mut messages: Vec<Option<Message>> = ids.iter().map(|_| None).collect();
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            complete(&row, large, &mut messages).map_err(failed)?;
        }
        Ok(messages)
    }

    /// Where one of the payloads cannot be read: its message is one that cannot be.
    async fn read_apart(
        &self,
        large: &[(usize, Large)],
    ) -> Result<Vec<Option<Message>>, ReadError> {
        let ids: Vec<i64> = large.iter().map(|(_, body)| body.id).collect();
        let apart = loop {
            match read_apart(self.client, WHAT, self.statement, &ids, self.more).await {
                Err(ReadError::Busy(_)) => tokio::time::sleep(BUSY_PAUSE).await,
                apart => break apart?,
            }
        };
        let unreadable = |(_, body): &(usize, Large)| {
            apart.unreadable.get(&body.id).map(|reason| body.unreadable(reason))
        };
        let mut messages: Vec<Option<Message>> = large.iter().map(unreadable).collect();
        for row in &apart.rows {
            complete(row, large, &mut messages).map_err(|error| classify(WHAT, error))?;
        }
        Ok(messages)
    }
}

const WHAT: &str = "reading large payloads";

/// Puts the payload of a row where its message belongs.
fn complete(
    row: &Row,
    large: &[(usize, Large)],
    messages: &mut [Option<Message>],
) -> Result<(), tokio_postgres::Error> {
    let (id, payload): (i64, Option<&[u8]>) = (row.try_get(0)?, row.try_get(1)?);
    let places = large.iter().zip(messages);
    for ((_, body), message) in places.filter(|((_, body), _)| body.id == id).take(1) {
        *message = Some(body.complete(payload.unwrap_or_default()));
    }
    Ok(())
}
