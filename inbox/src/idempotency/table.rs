//! The functions of `schema/inbox/0003_idempotency.sql`, called from Rust.
//!
//! Every statement is sent with its types, in one message and without preparing it: so each costs one
//! round trip, and works behind a pooler of transactions.

use std::time::Duration;

use serde_json::Value;
use tokio_postgres::types::Type;
use tokio_postgres::{GenericClient, Row};

use super::answer::Answer;
use super::error::{KeyError, LeaseError};
use super::request::{KeyRequest, ResumeAt};
use super::verdict::{Begin, Claim, Lease, ReadError};
use crate::schema::Schema;

/// The table of keys in one schema.
#[derive(Debug, Clone)]
pub struct KeyTable {
    begin: String,
    checkpoint: String,
    finish: String,
    renew: String,
    suspend: String,
    release: String,
    claim: String,
    store: String,
    expire: String,
}

impl KeyTable {
    /// The one in this schema.
    #[must_use]
    pub fn new(schema: &Schema) -> Self {
        Self {
            begin: schema.sql(
                "SELECT verdict, token, attempt, recovery_point, checkpoint, status, headers, body,
                     extract(epoch FROM lease_left)::float8 AS lease_left
                 FROM outbox.idempotency_begin($1, $2, $3, make_interval(secs => $4), make_interval(secs => $5), $6)",
            ),
            checkpoint: schema
                .sql("SELECT outbox.idempotency_checkpoint($1, $2, $3, $4, $5, make_interval(secs => $6))"),
            finish: schema.sql("SELECT outbox.idempotency_finish($1, $2, $3, $4, $5, $6)"),
            renew: schema.sql("SELECT outbox.idempotency_renew($1, $2, $3, make_interval(secs => $4))"),
            suspend: schema.sql("SELECT outbox.idempotency_suspend($1, $2, $3)"),
            release: schema.sql("SELECT outbox.idempotency_release($1, $2, $3)"),
            claim: schema.sql(
                "SELECT verdict, status, headers, body, extract(epoch FROM lease_left)::float8 AS lease_left
                 FROM outbox.idempotency_claim($1, $2, $3)",
            ),
            store: schema
                .sql("SELECT outbox.idempotency_store($1, $2, $3, $4, $5, $6, make_interval(secs => $7))"),
            expire: schema.sql("SELECT outbox.idempotency_expire($1)"),
        }
    }

    /// Takes a lease on the key, or says why not. In a transaction of its own, or nobody sees the lease.
    ///
    /// Cancel safety: a dropped future may leave the lease behind, which then ends by itself.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn begin(
        &self,
        client: &impl GenericClient,
        request: KeyRequest<'_>,
        lease: Duration,
        resume_at: &ResumeAt,
    ) -> Result<Begin, KeyError> {
        let step = "beginning under an idempotency key";
        let KeyRequest { scope, key, fingerprint, ttl } = request;
        let row = client
            .query_typed_one(
                &self.begin,
                &[
                    (&scope, Type::TEXT),
                    (&key, Type::TEXT),
                    (&fingerprint, Type::BYTEA),
                    (&lease.as_secs_f64(), Type::FLOAT8),
                    (&ttl.as_secs_f64(), Type::FLOAT8),
                    (&resume_at.parameter(), Type::TEXT_ARRAY),
                ],
            )
            .await
            .map_err(|error| KeyError::database(step, &error))?;
        Begin::read(&row, scope, key, lease).map_err(|error| unreadable(step, error))
    }

    /// Records a phase of the work, and holds the lease on; within the phase's transaction, if it has one.
    ///
    /// Cancel safety: a dropped future may have recorded it. Asking again is harmless.
    ///
    /// # Errors
    /// [`LeaseError::Lost`]: the caller's transaction must be rolled back.
    pub async fn checkpoint(
        &self,
        client: &impl GenericClient,
        lease: &Lease,
        point: &str,
        data: Option<&Value>,
    ) -> Result<(), LeaseError> {
        let row = client
            .query_typed_one(
                &self.checkpoint,
                &[
                    (&lease.scope, Type::TEXT),
                    (&lease.key, Type::TEXT),
                    (&lease.token, Type::UUID),
                    (&point, Type::TEXT),
                    (&data, Type::JSONB),
                    (&lease.duration.as_secs_f64(), Type::FLOAT8),
                ],
            )
            .await;
        kept("recording a phase", row)
    }

    /// Records the answer and ends the lease; within the last phase's transaction, if it has one.
    ///
    /// Cancel safety: a dropped future may have recorded it.
    ///
    /// # Errors
    /// [`LeaseError::Lost`]: the caller's transaction must be rolled back, and nobody may get the answer.
    pub async fn finish(
        &self,
        client: &impl GenericClient,
        lease: &Lease,
        answer: &Answer,
    ) -> Result<(), LeaseError> {
        let row = client
            .query_typed_one(
                &self.finish,
                &[
                    (&lease.scope, Type::TEXT),
                    (&lease.key, Type::TEXT),
                    (&lease.token, Type::UUID),
                    (&i32::from(answer.status), Type::INT4),
                    (&answer.header_pairs(), Type::JSONB),
                    (&answer.body, Type::BYTEA),
                ],
            )
            .await;
        kept("recording the answer", row)
    }

    /// Holds the lease on for its duration from now, while the work goes on.
    ///
    /// Cancel safety: a dropped future may have renewed it. Asking again is harmless.
    ///
    /// # Errors
    /// [`LeaseError::Lost`]: another attempt has it, and what this one still records is refused.
    pub async fn renew(
        &self,
        client: &impl GenericClient,
        lease: &Lease,
    ) -> Result<(), LeaseError> {
        let row = client
            .query_typed_one(
                &self.renew,
                &[
                    (&lease.scope, Type::TEXT),
                    (&lease.key, Type::TEXT),
                    (&lease.token, Type::UUID),
                    (&lease.duration.as_secs_f64(), Type::FLOAT8),
                ],
            )
            .await;
        kept("renewing a lease", row)
    }

    /// Ends the lease without an answer to keep: the next [`begin`](Self::begin) under the key is
    /// resumed at the recovery point, whatever it can resume at. The lease is void afterwards.
    ///
    /// Cancel safety: a dropped future may have ended it.
    ///
    /// # Errors
    /// [`LeaseError::Lost`]: another attempt has it.
    pub async fn suspend(
        &self,
        client: &impl GenericClient,
        lease: &Lease,
    ) -> Result<(), LeaseError> {
        let row = client
            .query_typed_one(
                &self.suspend,
                &[(&lease.scope, Type::TEXT), (&lease.key, Type::TEXT), (&lease.token, Type::UUID)],
            )
            .await;
        kept("suspending a lease", row)
    }

    /// Gives the key back, if nothing was done for it: the first attempt, and no phase recorded.
    ///
    /// Cancel safety: a dropped future may have given it back.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] also if something was done.
    pub async fn release(
        &self,
        client: &impl GenericClient,
        lease: &Lease,
    ) -> Result<(), LeaseError> {
        let row = client
            .query_typed_one(
                &self.release,
                &[(&lease.scope, Type::TEXT), (&lease.key, Type::TEXT), (&lease.token, Type::UUID)],
            )
            .await;
        kept("giving a key back", row)
    }

    /// Claims the key for this transaction (READ COMMITTED), or says why not; never waits.
    ///
    /// Cancel safety: the claim ends with the transaction.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn claim(
        &self,
        transaction: &impl GenericClient,
        request: KeyRequest<'_>,
    ) -> Result<Claim, KeyError> {
        let step = "claiming an idempotency key";
        let row = transaction
            .query_typed_one(
                &self.claim,
                &[
                    (&request.scope, Type::TEXT),
                    (&request.key, Type::TEXT),
                    (&request.fingerprint, Type::BYTEA),
                ],
            )
            .await
            .map_err(|error| KeyError::database(step, &error))?;
        Claim::read(&row).map_err(|error| unreadable(step, error))
    }

    /// Records the answer of a claim, in the claim's transaction.
    ///
    /// Cancel safety: it ends with the transaction.
    ///
    /// # Errors
    /// [`KeyError::Conflict`] if the key was leased meanwhile; [`KeyError::Refused`] if the claim's
    /// transaction has ended.
    pub async fn store(
        &self,
        transaction: &impl GenericClient,
        request: KeyRequest<'_>,
        answer: &Answer,
    ) -> Result<(), KeyError> {
        transaction
            .query_typed_one(
                &self.store,
                &[
                    (&request.scope, Type::TEXT),
                    (&request.key, Type::TEXT),
                    (&request.fingerprint, Type::BYTEA),
                    (&i32::from(answer.status), Type::INT4),
                    (&answer.header_pairs(), Type::JSONB),
                    (&answer.body, Type::BYTEA),
                    (&request.ttl.as_secs_f64(), Type::FLOAT8),
                ],
            )
            .await
            .map(drop)
            .map_err(|error| KeyError::database("recording the answer", &error))
    }

    /// Removes at most so many keys whose time is over, and says how many. Call it until it says less.
    ///
    /// Cancel safety: a dropped future may have removed them.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn expire(
        &self,
        client: &impl GenericClient,
        keys_max: u32,
    ) -> Result<u64, KeyError> {
        let step = "removing idempotency keys whose time is over";
        let keys_max = i32::try_from(keys_max).unwrap_or(i32::MAX);
        let expired = client
            .query_typed_one(&self.expire, &[(&keys_max, Type::INT4)])
            .await
            .and_then(|row| row.try_get::<_, i64>(0))
            .map_err(|error| KeyError::database(step, &error))?;
        Ok(u64::try_from(expired).unwrap_or_default())
    }
}

/// The functions that take a token say whether it is still the owner's.
fn kept(step: &'static str, row: Result<Row, tokio_postgres::Error>) -> Result<(), LeaseError> {
    let kept = row.and_then(|row| row.try_get(0));
    if kept.map_err(|error| KeyError::database(step, &error))? {
        Ok(())
    } else {
        Err(LeaseError::Lost)
    }
}

fn unreadable(step: &'static str, error: ReadError) -> KeyError {
    match error {
        ReadError::Column(error) => KeyError::database(step, &error),
        ReadError::Verdict(unheard) => {
            let reason = format!("the verdict {:?} is not known", unheard.0);
            KeyError::Refused { step, reason, code: String::new() }
        }
    }
}
