//! Logical decoding by PostgreSQL's own client, to nowhere.

use std::process::Stdio;
use std::time::Instant;

use tokio::process::Command;

use super::COLUMNS;
use crate::backlog::Backlog;
use crate::drain::USUAL_PAYLOAD;
use crate::rig::Rig;
use crate::usage::Process;

/// One slot a run, all from before the rows were written.
pub(super) async fn measure(rig: &Rig, rows: u64, runs: usize) -> Vec<[f64; COLUMNS.len()]> {
    let mut backlog = Backlog::empty(rig, USUAL_PAYLOAD).await;
    let session = backlog.database.connect().await;
    session
        .run("CREATE PUBLICATION bench FOR TABLE outbox.message WITH (publish = 'insert')")
        .await;
    for n in 0..runs {
        let create = format!("SELECT pg_create_logical_replication_slot('bench_{n}', 'pgoutput')");
        session.run(&create).await;
    }
    backlog.write(rows).await;
    // The client stops at the first position that is not below this one.
    session.run("SELECT pg_logical_emit_message(true, 'bench', 'end')").await;
    let end: String = session
        .query_one("SELECT pg_current_wal_flush_lsn()::text", &[])
        .await
        .expect("PostgreSQL knows its position")
        .get(0);
    session
        .run("SELECT pg_logical_emit_message(true, 'bench', 'past the end'), pg_switch_wal()")
        .await;
    let mut lines = Vec::new();
    for n in 0..runs {
        let slot = format!("bench_{n}");
        lines.push(receive(rig, &backlog, &slot, &end).await);
        session.run(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
    }
    lines
}

async fn receive(rig: &Rig, backlog: &Backlog, slot: &str, end: &str) -> [f64; COLUMNS.len()] {
    let mut command = Command::new(format!("{}/pg_recvlogical", rig.postgres.fact("BIN")));
    command
        .args(["--dbname", &backlog.database.url, "--slot", slot, "--start", "--endpos", end])
        .args(["-o", "proto_version=1", "-o", "publication_names=bench", "--file", "/dev/null"])
        .args(["--no-loop"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let (me, server) = (Process(std::process::id()), rig.postgres_process());
    let (own, theirs, begun) = (me.cpu(), server.cpu(), Instant::now());
    let status = command.status().await.expect("pg_recvlogical can be run");
    assert!(status.success(), "pg_recvlogical: {status}");
    let seconds = begun.elapsed().as_secs_f64();
    [
        backlog.rows as f64 / seconds,
        (me.cpu() - own).per_100k(backlog.rows),
        (server.cpu() - theirs).per_100k(backlog.rows),
    ]
}
