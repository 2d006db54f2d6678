//! `prune`: deletes settled messages now, by the same rounds as the keeper's retention.
//!
//! Nothing else than a round deletes: it holds `@floor`, so a keeper at work and a person who prunes
//! take turns, and each finds the floor where the other left it.

use serde::Serialize;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::admin::AdminError;
use crate::config::RetentionConfig;
use crate::decision::{self, Decided, Decision};
use crate::keeper::floor;
use crate::keeper::horizon::Held;
use crate::keeper::retention::{self, Prune, Round};
use crate::schema::Schema;

/// What a prune did, or (dry run) would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Where the floor was.
    pub floor_before: i64,
    /// Where it is: what lies below is deleted, or kept for a retry row.
    pub floor: i64,
    /// Messages deleted.
    pub deleted: u64,
    /// Messages below the floor that a retry row still needs.
    pub kept: u64,
    /// Rows that nobody expected, and that are delivered now. Must be 0.
    pub late: u64,
    /// What stands at the floor.
    pub held: Held,
}

impl Pruned {
    fn add(pruned: Option<Self>, round: Round) -> Self {
        let Round { floor_before, floor, deleted, kept, late, held, .. } = round;
        match pruned {
            None => Self { floor_before, floor, deleted, kept, late, held },
            Some(before) => Self {
                floor_before: before.floor_before,
                floor,
                deleted: before.deleted + deleted,
                kept: before.kept + kept,
                late: before.late + late,
                held,
            },
        }
    }
}

/// What is asked for, as it is recorded.
#[derive(Serialize)]
struct Filter {
    older_than: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    below_id: Option<i64>,
}

/// Deletes what every target has settled, as far as `prune` says, in rounds of
/// `config.delete_rows_max`.
///
/// With `dry_run` it counts, in one read.
///
/// # Errors
/// [`AdminError::Busy`], the database's; with [`AdminError::Partly`] around it once a round is
/// committed.
pub async fn prune(
    client: &mut Client,
    schema: &Schema,
    config: &RetentionConfig,
    dead_ranges_max: usize,
    prune: Prune,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<Pruned, AdminError> {
    let filter = Filter {
        older_than: humantime::format_duration(prune.older_than).to_string(),
        below_id: prune.below_id,
    };
    if dry_run {
        return Ok(Pruned::add(None, retention::foresee(client, schema, prune).await?));
    }
    let command_id = Uuid::now_v7();
    let mut pruned: Option<Pruned> = None;
    loop {
        let round = async {
            let transaction = floor::hold(client, schema).await?;
            let round =
                retention::pass(&transaction, schema, config, dead_ranges_max, Some(prune), &[])
                    .await?;
            let decided = Decided {
                command_id,
                command: "prune",
                target: None,
                filter: &filter,
                rows: round.deleted,
                ids: (round.floor_before..round.floor).into(),
                message_ids: None,
            };
            decision::record(&transaction, schema, decided, decision).await?;
            transaction.commit().await?;
            Ok::<_, AdminError>(round)
        };
        let round = match (round.await, &pruned) {
            (Ok(round), _) => round,
            (Err(source), Some(before)) if before.deleted > 0 => {
                let done = format!("{} messages were deleted", before.deleted);
                let hint = "run it again".to_owned();
                return Err(AdminError::Partly { done, hint, source: Box::new(source) });
            }
            (Err(error), _) => return Err(error),
        };
        let more = round.more && round.floor > round.floor_before;
        let all = Pruned::add(pruned.take(), round);
        if !more {
            return Ok(all);
        }
        pruned = Some(all);
    }
}
