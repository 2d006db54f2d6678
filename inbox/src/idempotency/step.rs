//! External steps: calls to third parties, each made once as far as we can know, and with the same key
//! whenever we cannot.

use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio_postgres::GenericClient;
use uuid::Uuid;

use super::answer::Answer;
use super::downstream::downstream_key;
use super::error::{KeyError, LeaseError};
use super::request::{KeyRequest, ResumeAt};
use super::table::KeyTable;
use super::verdict::{Begin, Lease};
use crate::connection::Connections;

/// Steps that were not made again, by `step`.
pub const STEP_REPLAYS: &str = "idempotency_step_replays_total";

/// The most that is kept of the results of all steps of one key, as JSON, in bytes. The column
/// takes 1 MiB; what is left is for its spaces, and for steps whose result was not kept.
pub const STEP_RESULTS_BYTES_MAX: usize = 768 * 1024;

/// What there is to do for a message with external steps.
#[derive(Debug)]
pub enum External {
    /// Do it: steps that were recorded are not called again.
    Steps(Steps),
    /// It is done.
    Done,
    /// Another consumer does it just now: give the message back for later.
    InProgress,
    /// Another message has this id.
    Mismatch,
}

/// The external steps of one piece of work, under its lease. Clones are the same steps.
///
/// ```
/// # use outbox_inbox::idempotency::{StepError, Steps};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Charge { id: String }
/// # #[derive(Debug, thiserror::Error)] #[error("no")] struct Declined;
/// # async fn charge(key: uuid::Uuid) -> Result<Charge, Declined> { Err(Declined) }
/// # async fn handle(steps: Steps) -> Result<(), StepError<Declined>> {
/// let charged = steps.once("charge", |key| charge(key)).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Steps {
    table: Arc<KeyTable>,
    connections: Connections,
    /// Held over a step: steps are made one after the other, or one's record would lose the other's.
    lease: Arc<Mutex<Lease>>,
}

/// Why a step was not made, or not recorded.
#[derive(Debug, thiserror::Error)]
pub enum StepError<E> {
    /// The call failed. It is repeated with the same key.
    #[error("the call failed")]
    Call(#[source] E),
    /// The lease was lost, or the database is away: whether the call is made again is the successor's.
    #[error("the step could not be recorded")]
    Lease(#[from] LeaseError),
    /// What was kept of an earlier call cannot be read back as what is asked for: another version
    /// wrote it.
    #[error("the result of the step cannot be read back")]
    Result(#[source] serde_json::Error),
    /// The call was made before, and is not made again; its result was too large to be kept, or
    /// nothing that JSON in PostgreSQL holds. The third party can be asked for it by
    /// [`Steps::key`].
    #[error("the step was made before, and its result was not kept")]
    NotRetained,
}

impl Steps {
    pub(crate) fn new(table: KeyTable, connections: Connections, lease: Lease) -> Self {
        Self { table: Arc::new(table), connections, lease: Arc::new(Mutex::new(lease)) }
    }

    /// Takes a lease on the external work of a message; the fingerprint is of what was asked for.
    ///
    /// Cancel safety: a dropped future may leave the lease behind, which then ends by itself.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn begin(
        table: &KeyTable,
        connections: &Connections,
        request: KeyRequest<'_>,
        lease: std::time::Duration,
    ) -> Result<External, KeyError> {
        let connection = connections.lend().await?;
        let begin = table.begin(connection.client(), request, lease, &ResumeAt::Anywhere).await?;
        Ok(match begin {
            Begin::Started(lease) | Begin::Resumed(lease) => {
                External::Steps(Self::new(table.clone(), connections.clone(), lease))
            }
            Begin::Replay(_) => External::Done,
            // Whoever takes it up anywhere is never told that it is unknown.
            Begin::InProgress { .. } | Begin::Unknown => External::InProgress,
            Begin::Mismatch => External::Mismatch,
        })
    }

    /// Calls, and records what came of it, unless that is recorded already: then that is returned.
    ///
    /// A crash between the two calls again with the same key, which the third party must know as its own
    /// idempotency key. What fails is not recorded.
    ///
    /// The results of all steps together have room for [`STEP_RESULTS_BYTES_MAX`] bytes of JSON.
    /// One that does not fit, or that PostgreSQL's JSON cannot hold (a NUL in a string), is
    /// returned to this attempt, and what is recorded is that the call was made: a later attempt
    /// gets [`StepError::NotRetained`], and no second call.
    ///
    /// Cancel safety: a dropped future may have called without recording it; as a crash.
    ///
    /// # Errors
    /// See [`StepError`].
    pub async fn once<T, E, F>(
        &self,
        step: &str,
        call: impl FnOnce(Uuid) -> F,
    ) -> Result<T, StepError<E>>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, E>>,
    {
        let mut lease = self.lease.lock().await;
        if let Some(result) = recorded(lease.checkpoint.as_ref(), step) {
            metrics::counter!(STEP_REPLAYS, "step" => step.to_owned()).increment(1);
            if *result == made() {
                return Err(StepError::NotRetained);
            }
            return serde_json::from_value(result.clone()).map_err(StepError::Result);
        }
        let key = downstream_key(&lease.scope, &lease.key, step);
        let result = call(key).await.map_err(StepError::Call)?;
        let checkpoint = serde_json::to_value(&result)
            .ok()
            .map(|value| with(lease.checkpoint.clone(), step, value))
            .filter(fits);
        let connection = self.connections.lend_to_record().await;
        let connection = connection.map_err(|error| LeaseError::Key(error.into()))?;
        let recorded = match checkpoint {
            None => None,
            Some(checkpoint) => {
                let client = connection.client();
                match self.table.checkpoint(client, &lease, step, Some(&checkpoint)).await {
                    Ok(()) => Some(checkpoint),
                    Err(LeaseError::Key(error)) if error.refused_data() => None,
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let checkpoint = match recorded {
            Some(checkpoint) => checkpoint,
            None => {
                tracing::warn!(
                    step,
                    "the result of a step was not kept; only that it was made is recorded"
                );
                let made = with(lease.checkpoint.clone(), step, made());
                self.table.checkpoint(connection.client(), &lease, step, Some(&made)).await?;
                made
            }
        };
        step.clone_into(&mut lease.recovery_point);
        lease.checkpoint = Some(checkpoint);
        Ok(result)
    }

    /// The key of a step, for who calls by himself.
    pub async fn key(&self, step: &str) -> Uuid {
        let lease = self.lease.lock().await;
        downstream_key(&lease.scope, &lease.key, step)
    }

    /// The lease as it stands: attempt, recovery point, what was recorded.
    pub async fn lease(&self) -> Lease {
        self.lease.lock().await.clone()
    }

    /// Records a phase of work in the database, within its transaction.
    ///
    /// Cancel safety: it ends with the transaction.
    ///
    /// # Errors
    /// [`LeaseError::Lost`]: the transaction must be rolled back.
    pub async fn checkpoint_in(
        &self,
        transaction: &impl GenericClient,
        point: &str,
    ) -> Result<(), LeaseError> {
        let lease = self.lease.lock().await;
        self.table.checkpoint(transaction, &lease, point, lease.checkpoint.as_ref()).await
    }

    /// Ends the lease within the transaction of the message's own effect: all of it is done, or none.
    ///
    /// Cancel safety: it ends with the transaction.
    ///
    /// # Errors
    /// [`LeaseError::Lost`]: the transaction must be rolled back.
    pub async fn finish_in(&self, transaction: &impl GenericClient) -> Result<(), LeaseError> {
        let lease = self.lease.lock().await;
        self.table.finish(transaction, &lease, &Answer::none()).await
    }
}

/// What stands for a result that was not kept.
fn made() -> Value {
    serde_json::json!({ "outbox_inbox.result": "not retained" })
}

/// Whether there is room for it, and for some more steps without a result; and whether it can be
/// read back.
fn fits(checkpoint: &Value) -> bool {
    // Printed, since that is what is read back, with its limit of depth.
    let text = checkpoint.to_string();
    text.len() <= STEP_RESULTS_BYTES_MAX && serde_json::from_str::<Value>(&text).is_ok()
}

/// What was recorded for a step.
fn recorded<'a>(checkpoint: Option<&'a Value>, step: &str) -> Option<&'a Value> {
    checkpoint?.as_object()?.get(step)
}

/// The checkpoint with one step more.
fn with(checkpoint: Option<Value>, step: &str, result: Value) -> Value {
    let mut steps = match checkpoint {
        Some(Value::Object(steps)) => steps,
        _ => Map::new(),
    };
    steps.insert(step.to_owned(), result);
    Value::Object(steps)
}
