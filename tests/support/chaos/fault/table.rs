//! What an owner can do to the outbox.

use super::super::cell::{Cell, Cut};
use super::{Fault, Part};
use crate::support::patience::until;
use crate::support::session::Session;
use crate::support::writer::{Batch, committed};

/// Messages that are written meanwhile.
const MEANWHILE: usize = 100;

pub(super) const FAULTS: &[Fault] = &[
    Fault::new(
        "vacuum-full",
        "VACUUM FULL of every table of the outbox",
        &[Part::Database],
        |cell| Box::pin(vacuum_full(cell)),
    ),
    Fault::new(
        "truncate-refused",
        "TRUNCATE … RESTART IDENTITY is refused",
        &[Part::Database],
        |cell| Box::pin(truncate_refused(cell)),
    ),
    Fault::new(
        "truncate-forced",
        "a superuser truncates with the guard off; stopped, mended by `ledger rebuild`",
        &[Part::Database],
        |cell| Box::pin(truncate_forced(cell)),
    )
    .alone(),
    Fault::new(
        "sequence-cache",
        "the sequence gets a CACHE; stopped, mended by CACHE 1 and `ledger rebuild`",
        &[Part::Database],
        |cell| Box::pin(sequence_cache(cell)),
    )
    .alone(),
];

async fn vacuum_full(cell: &Cell<'_>) {
    let session = cell.session().await;
    cell.struck();
    for table in ["message", "ledger", "hole", "retry", "dead", "watermark", "kept"] {
        // Not in one text: that would be one transaction.
        session.run(&format!("VACUUM FULL outbox.{table}")).await;
    }
    cell.mended();
}

async fn truncate_refused(cell: &Cell<'_>) {
    let session = cell.session().await;
    cell.struck();
    let refused = session.batch_execute(TRUNCATE).await;
    if !refused.as_ref().is_err_and(|error| error.code().is_some_and(|c| c.code() == "23001")) {
        cell.note().problems.push(format!("TRUNCATE was not refused by the guard: {refused:?}"));
    }
    cell.go_on(MEANWHILE).await;
}

/// Everything is settled before, so that what the superuser destroys was delivered.
async fn truncate_forced(cell: &Cell<'_>) {
    let session = cell.session().await;
    let pause = cell.writer.pause().await;
    settled(&session).await;
    let mut cut = Cut { deliveries: [].into(), journal: [].into() };
    cut.journal.extend(committed(&session).await.iter().map(|c| c.message_id));
    for (target, consumer) in &cell.stage.consumers {
        consumer.drain().await;
        cut.deliveries.insert(target, consumer.deliveries().len());
    }
    cell.note().cut = Some(cut);

    cell.struck();
    session.run(&format!("SET session_replication_role = replica; {TRUNCATE}")).await;
    drop(pause);
    stopped(cell, "ledger rebuild").await;
    relieved(cell, async || cell.rebuild().await).await;
}

/// The writer pauses while ids would be drawn ahead: those have no order to keep.
async fn sequence_cache(cell: &Cell<'_>) {
    let session = cell.session().await;
    let pause = cell.writer.pause().await;
    cell.struck();
    session.run("ALTER TABLE outbox.message ALTER COLUMN id SET CACHE 20").await;
    Batch { key_prefix: "cached", ..Batch::orders(10) }.write(&session).await;
    stopped(cell, "SET CACHE 1").await;
    relieved(cell, async || {
        session.run("ALTER TABLE outbox.message ALTER COLUMN id SET CACHE 1").await;
        cell.rebuild().await;
    })
    .await;
    drop(pause);
}

/// Waits until the leader has stopped both pipelines and named the remedy.
async fn stopped(cell: &Cell<'_>, remedy: &str) {
    until(&format!("both pipelines to stop with the remedy {remedy:?}"), async || {
        let log = cell.crew.log().await;
        let stopped = |target: &str| {
            let name = format!("target_name=\"{target}\"");
            log.lines().any(|line| {
                line.contains("pipeline stopped") && line.contains(&name) && line.contains(remedy)
            })
        };
        (stopped("amqp") && stopped("kafka")).then_some(())
    })
    .await;
}

/// The relays go, the remedy is applied, others come.
async fn relieved(cell: &Cell<'_>, remedy: impl AsyncFnOnce()) {
    let problems = cell.crew.dismiss().await;
    cell.note().problems.extend(problems);
    remedy().await;
    cell.hire().await;
    cell.hire().await;
    cell.mended();
}

async fn settled(session: &Session) {
    let open = "SELECT (SELECT count(*) FROM outbox.message_state WHERE state <> 'sent')
                     + (SELECT count(*) FROM outbox.hole WHERE dead_at IS NULL)";
    until("everything to be settled", async || (session.count(open).await == 0).then_some(()))
        .await;
}

const TRUNCATE: &str = "TRUNCATE outbox.message RESTART IDENTITY";
