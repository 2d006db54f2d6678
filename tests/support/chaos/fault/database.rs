//! A PostgreSQL that stops, ends backends, or is held up by somebody's transaction.

use super::super::cell::Cell;
use super::{Fault, Part, Scene};
use crate::support::session::{APPLICATION_NAME, Session};
use crate::support::writer::Batch;

/// Messages that are written while a transaction stays open.
const MEANWHILE: usize = 600;
/// Messages of that transaction.
const HELD: usize = 50;
/// How often backends are terminated.
const ROUNDS: usize = 4;

pub(super) const FAULTS: &[Fault] = &[
    Fault::new(
        "postgresql-crashes",
        "PostgreSQL stops without a warning and recovers",
        &[Part::Database],
        |cell| Box::pin(crashes(cell)),
    ),
    Fault::new("postgresql-restarts", "PostgreSQL restarts", &[Part::Database], |cell| {
        Box::pin(restarts(cell))
    }),
    Fault::new(
        "backends-terminated",
        "the relays' backends and walsenders are terminated",
        &[Part::Database],
        |cell| Box::pin(terminated(cell)),
    ),
    Fault::new(
        "idle-transaction",
        "a transaction with 50 messages is idle throughout",
        &[Part::Database],
        |cell| Box::pin(idle_transaction(cell)),
    ),
    Fault::new(
        "old-transaction",
        "a transaction with 50 messages that has been idle since the run began, ten minutes at most",
        &[Part::Database],
        |cell| Box::pin(old_transaction(cell)),
    )
    .in_scene(Scene::OldTransaction),
    Fault::new("snapshot-held", "a snapshot is held throughout", &[Part::Database], |cell| {
        Box::pin(snapshot_held(cell))
    }),
    Fault::new(
        "prepared-transaction",
        "a prepared transaction with 50 messages is left",
        &[Part::Database],
        |cell| Box::pin(prepared_transaction(cell)),
    )
    .in_scene(Scene::TwoPhase),
    Fault::new("disk-full", "PostgreSQL's disk is full", &[Part::Database], |cell| {
        Box::pin(disk_full(cell))
    })
    .in_scene(Scene::SmallDisk),
];

async fn crashes(cell: &Cell<'_>) {
    cell.struck();
    cell.arena.postgres.kill().await;
    cell.arena.postgres.start_again().await;
    cell.mended();
}

async fn restarts(cell: &Cell<'_>) {
    cell.struck();
    cell.arena.postgres.stop().await;
    cell.arena.postgres.start_again().await;
    cell.mended();
}

async fn terminated(cell: &Cell<'_>) {
    for round in 0..ROUNDS {
        let which = if round % 2 == 0 { "LIMIT 1" } else { "" };
        let terminate = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM (
                 SELECT pid FROM pg_stat_activity
                 WHERE datname = current_database() AND backend_type IN ('client backend', 'walsender')
                   AND application_name <> '{APPLICATION_NAME}' ORDER BY random() {which}) AS one"
        );
        cell.struck();
        // None: they have just been lost by another fault.
        if let Ok(session) = Session::try_connect(&cell.stage.database.url).await {
            let _ = session.query_one(&terminate, &[]).await;
        }
        cell.go_on(MEANWHILE / ROUNDS / 2).await;
    }
}

async fn idle_transaction(cell: &Cell<'_>) {
    let holder = cell.session().await;
    held().begin(&holder).await;
    left_open(cell).await;
    // Another fault may have ended it: then it never was.
    let _ = holder.batch_execute("COMMIT").await;
    cell.mended();
}

/// The relays find it there, and it ends while they are at work.
async fn old_transaction(cell: &Cell<'_>) {
    left_open(cell).await;
    cell.arena.old_transaction().await.commit().await;
    cell.mended();
}

async fn snapshot_held(cell: &Cell<'_>) {
    let holder = cell.session().await;
    holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM outbox.message").await;
    cell.struck();
    cell.go_on(MEANWHILE).await;
    let _ = holder.batch_execute("COMMIT").await;
    cell.mended();
}

async fn prepared_transaction(cell: &Cell<'_>) {
    let holder = cell.session().await;
    held().begin(&holder).await;
    holder.run("PREPARE TRANSACTION 'left'").await;
    left_open(cell).await;
    holder.run("COMMIT PREPARED 'left'").await;
    cell.mended();
}

async fn disk_full(cell: &Cell<'_>) {
    let disk = cell.arena.small_disk().await;
    cell.struck();
    disk.fill();
    let session = cell.session().await;
    let written = "SELECT count(*) FROM business";
    // Some rows still fit into pages that are there; then nobody writes any more.
    cell.hold(async || {
        let before = session.count(written).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        session.count(written).await == before
    })
    .await;
    disk.empty();
    cell.mended();
}

/// A transaction with messages stays open: others' are written meanwhile, and come out.
async fn left_open(cell: &Cell<'_>) {
    cell.struck();
    cell.go_on(MEANWHILE).await;
    cell.wait_delivered(1).await;
}

/// What a transaction holds that stays open.
pub(crate) fn held() -> Batch {
    Batch { key_prefix: "held", ..Batch::orders(HELD) }
}
