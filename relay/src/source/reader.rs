//! The reader: one task on one connection that reads while there is room, and sleeps while there is
//! nothing to read.

use tokio::sync::watch;

use super::Start;
use super::error::{ReadError, SourceError};
use super::reading::{Ports, Reading};
use super::statements::Statements;
use super::status::SourceStatus;
use crate::config::SourceConfig;
use crate::database::Session;
use crate::schema::Schema;

/// Reads the outbox for one target. Built, then run.
pub struct Reader {
    client: Session,
    schema: Schema,
    target: String,
    limits: SourceConfig,
    statements: Option<Statements>,
    status: watch::Sender<SourceStatus>,
}

impl Reader {
    /// A reader on a connection that is used for nothing else, and given up with the reader.
    #[must_use]
    pub fn new(client: Session, schema: Schema, target: &str, limits: SourceConfig) -> Self {
        let (status, _) = watch::channel(SourceStatus::default());
        Self { client, schema, target: target.to_owned(), limits, statements: None, status }
    }

    /// Prepares what it will ask, before it is known where it starts; else `run` does.
    ///
    /// # Errors
    /// As `run`.
    pub async fn prepare(&mut self) -> Result<(), SourceError> {
        let Self { client, schema, target, limits, .. } = self;
        match Statements::prepare(client, schema, target, limits).await {
            Ok(statements) => self.statements = Some(statements),
            Err(error) => ended(error)?,
        }
        Ok(())
    }

    /// Waits until its connection has ended.
    ///
    /// Cancel safety: yes.
    pub async fn lost(&mut self) {
        self.client.ended().await;
    }

    /// What it shows of itself.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<SourceStatus> {
        self.status.subscribe()
    }

    /// Reads from `start` until it is cancelled or the pipeline has dropped its end.
    ///
    /// # Errors
    /// `Lost`: the pipeline starts anew. `Stopped`: a person must act first.
    ///
    /// Cancel safety: dropped (or cancelled) it loses only what lies in memory; its connection, on
    /// which a statement may be in progress, is of no further use.
    pub async fn run(self, start: Start, ports: Ports) -> Result<(), SourceError> {
        let cancel = ports.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(()),
            error = async {
                match self.begin(start, ports).await {
                    Ok(reading) => reading.run().await,
                    Err(error) => error,
                }
            } => ended(error),
        }
    }

    async fn begin(self, start: Start, ports: Ports) -> Result<Reading, ReadError> {
        let Self { client, schema, target, limits, statements, status } = self;
        let statements = match statements {
            Some(statements) => statements,
            None => Statements::prepare(&client, &schema, &target, &limits).await?,
        };
        Reading::begin(client, limits, statements, status, start, ports)
    }
}

fn ended(error: ReadError) -> Result<(), SourceError> {
    match error {
        ReadError::Ended(error) => Err(error),
        // Not even the preparation got through: no state is worth keeping.
        ReadError::Busy(error) => {
            Err(SourceError::Lost { what: "preparing to read".to_owned(), error: Some(error) })
        }
        ReadError::Row(unreadable) => Err(unreadable.stopped()),
        ReadError::Closed => Ok(()),
    }
}
