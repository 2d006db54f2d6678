//! `target move`: lets a target go on at another broker.

use serde::Serialize;
use tokio_postgres::Client;
use uuid::Uuid;

use super::claim;
use crate::admin::{AdminError, end};
use crate::broker::Broker;
use crate::decision::{self, Decided, Decision};
use crate::keeper::floor;
use crate::range::RangeSet;
use crate::schema::Schema;

/// What `target move` has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Where the target's messages went, for people; `None`: that was not known.
    pub from: Option<String>,
}

/// What is asked for, as it is recorded.
#[derive(Serialize)]
struct Filter<'a> {
    from: Option<&'a str>,
    /// How far the target had come there.
    settled: String,
}

const FORGET: &str =
    "UPDATE outbox.ledger SET broker_kind = NULL, broker_place = NULL WHERE target = $1";

/// Forgets where the target's messages went: the next run notes where its configuration leads, and goes
/// on there with what is pending. What is settled is not sent again.
///
/// With `dry_run` everything is done and rolled back.
///
/// # Errors
/// [`AdminError::Leased`] while a relay works on it, [`AdminError::UnknownTarget`], the database's.
pub async fn relocate(
    client: &mut Client,
    schema: &Schema,
    target: &str,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<Moved, AdminError> {
    let transaction = floor::hold(client, schema).await?;
    let ledger = claim(&transaction, schema, target).await?;
    transaction.execute(&schema.sql(FORGET), &[&target]).await?;
    let from = ledger.broker.as_ref().map(Broker::to_string);
    let decided = Decided {
        command_id: Uuid::now_v7(),
        command: "target move",
        target: Some(target),
        filter: &Filter { from: from.as_deref(), settled: ledger.settled.to_string() },
        rows: 0,
        ids: RangeSet::new(),
        message_ids: None,
    };
    decision::record_always(&transaction, schema, decided, decision).await?;
    end(transaction, dry_run).await?;
    Ok(Moved { from })
}
