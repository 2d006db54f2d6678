//! The inbox's SQL, and what it answers to tokio-postgres.

use std::time::Duration;

use serde_json::Value;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{GenericClient, Row};

use crate::builder::Inbox;
use crate::error::InboxError;
use crate::fingerprint::FINGERPRINT_BYTES;
use crate::id::MessageId;
use crate::schema::Schema;
use crate::verdict::Verdict;

/// The statements, with the configured schema.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts {
    pub(crate) begin: String,
    pub(crate) begin_batch: String,
    pub(crate) settle_batch: String,
    pub(crate) fail: String,
    pub(crate) take: String,
}

// The wait is set before the claim waits: the order of the lateral join's sides. A statement of the
// handler's ends with the handler's time, or the rollback of one that was given up would wait for
// it; a shorter limit of the role's stays.
const WAIT: &str = "(
    SELECT set_config('lock_timeout', $1, true), CASE
        WHEN current_setting('statement_timeout')::interval BETWEEN interval '1 ms' AND interval '{limit} ms' THEN ''
        ELSE set_config('statement_timeout', '{limit}ms', true)
    END
) AS wait";

const BEGIN: &str = "
SELECT begun.verdict, begun.attempt
FROM {wait}, LATERAL outbox.inbox_begin($2, $3, $4) AS begun";

const BEGIN_BATCH: &str = "
SELECT claimed.verdict
FROM {wait}, LATERAL outbox.inbox_claim_batch($2, $3, $4) AS claimed
ORDER BY claimed.ord";

const SETTLE_BATCH: &str = "SELECT message_id, attempts FROM outbox.inbox_settle($1, $2)";

const FAIL: &str = "SELECT attempts, parked FROM outbox.inbox_fail($1, $2, $3, $4, $5, $6, $7)";

const TAKE: &str = "
SELECT message_id, headers, payload
FROM outbox.inbox_failure
WHERE consumer = $1 AND replay_at IS NOT NULL
ORDER BY replay_at
LIMIT 1";

impl Texts {
    pub(crate) fn of(schema: &Schema, handler_timeout: Duration) -> Self {
        let limit = i32::try_from(handler_timeout.as_millis().max(1)).unwrap_or(i32::MAX);
        let wait = WAIT.replace("{limit}", &limit.to_string());
        let waiting = |text: &str| schema.sql(&text.replace("{wait}", &wait));
        Self {
            begin: waiting(BEGIN),
            begin_batch: waiting(BEGIN_BATCH),
            settle_batch: schema.sql(SETTLE_BATCH),
            fail: schema.sql(FAIL),
            take: schema.sql(TAKE),
        }
    }
}

/// A claim's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) verdict: Verdict,
    /// From 1; of a fresh one.
    pub(crate) attempt: u32,
}

/// A failed attempt to be recorded.
pub(crate) struct Failed<'a> {
    pub(crate) message_id: &'a str,
    pub(crate) class: &'a str,
    pub(crate) error: &'a str,
    /// 0: it is parked at once.
    pub(crate) attempts_max: u32,
    pub(crate) headers: Option<Value>,
    pub(crate) payload: Option<&'a [u8]>,
}

impl Inbox {
    /// Claims one message in the transaction that `client` is in. Unnamed statements: one round trip
    /// each, and nothing is left in the session, whatever pooler it belongs to.
    pub(crate) async fn claim(
        &self,
        client: &impl GenericClient,
        id: &MessageId,
        fingerprint: Option<[u8; FINGERPRINT_BYTES]>,
    ) -> Result<Claim, InboxError> {
        let (wait, fingerprint) = (self.wait_text(), fingerprint.map(|f| f.to_vec()));
        let id = id.as_str();
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&wait, Type::TEXT),
            (&self.consumer, Type::TEXT),
            (&id, Type::TEXT),
            (&fingerprint, Type::BYTEA),
        ];
        let rows =
            client.query_typed(&self.texts.begin, &parameters).await.map_err(InboxError::of)?;
        let row = rows.first().ok_or_else(|| InboxError::Inbox("a claim without answer".into()))?;
        let attempt: Option<i32> = row.try_get(1).map_err(InboxError::unreadable)?;
        Ok(Claim { verdict: verdict(row)?, attempt: count(attempt.unwrap_or(1)) })
    }

    /// Claims many, at most once in a transaction; verdicts in the order of the ids.
    pub(crate) async fn claim_batch(
        &self,
        client: &impl GenericClient,
        ids: &[&str],
        fingerprints: Option<Vec<&[u8]>>,
    ) -> Result<Vec<Verdict>, InboxError> {
        let wait = self.wait_text();
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&wait, Type::TEXT),
            (&self.consumer, Type::TEXT),
            (&ids, Type::TEXT_ARRAY),
            (&fingerprints, Type::BYTEA_ARRAY),
        ];
        let rows = client.query_typed(&self.texts.begin_batch, &parameters).await;
        let verdicts: Vec<_> =
            rows.map_err(InboxError::of)?.iter().map(verdict).collect::<Result<_, _>>()?;
        if verdicts.len() != ids.len() {
            return Err(InboxError::Inbox("a claim without answer".into()));
        }
        Ok(verdicts)
    }

    pub(crate) fn wait_text(&self) -> String {
        // 0 would be for ever.
        format!("{}ms", self.claim_wait.as_millis().max(1))
    }
}

pub(crate) fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn verdict(row: &Row) -> Result<Verdict, InboxError> {
    let text: &str = row.try_get(0).map_err(InboxError::unreadable)?;
    text.parse().map_err(|error: crate::verdict::UnknownVerdict| InboxError::Inbox(error.into()))
}
