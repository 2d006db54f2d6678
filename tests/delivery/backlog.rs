//! A broker that is away while rows pile up: memory, snapshots and WAL stay what they were.

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::progress::assert_nobody_blamed;
use crate::support::proxy::{Network, Proxy};
use crate::support::relay::{RelayProcess, RelayStart};
use crate::support::services::Services;
use crate::support::session::APPLICATION_NAME;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

const MIB: u64 = 1 << 20;
/// Rows of 1 MiB.
const ROWS: usize = 150;
/// What the relay may hold: the prefetch, and one row beyond it.
const PREFETCH_MIB: u64 = 16;
/// The window: bytes that the client library has copied for the socket.
const WINDOW_MIB: u64 = 8;
/// Room for what is neither: statements, buffers, an allocator that keeps what it had.
const ROOM_MIB: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_memory_is_bounded_by_bytes_while_the_broker_is_away() {
    // GIVEN rows of 1 MiB, many more than the prefetch may hold, and no broker
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let (proxy, through) = Proxy::in_front_of(&Services::amqp()).await;
    proxy.set(Network::Down);
    let stage = stage
        .set("target.amqp", "url", format!("{through:?}"))
        .set("target.amqp", "window_bytes_max", format!("\"{WINDOW_MIB}MiB\""))
        .set("source", "prefetch_bytes_max", format!("\"{PREFETCH_MIB}MiB\""))
        .set("source", "row_bytes_max", "\"2MiB\"");
    let session = stage.session().await;
    let batch = Batch { payload_bytes: Some(MIB as usize), ..Batch::orders(ROWS) };

    // WHEN they are there while the relay tries again and again, and then drained
    let relay = RelayStart::new(&stage.config).spawn();
    proxy.wait_connections(1).await;
    let before = relay.memory();
    batch.write(&session).await;
    proxy.wait_connections(4).await;
    let away = relay.memory();
    proxy.set(Network::Up);
    stage.wait_received(ROWS).await;
    let after = relay.memory();

    // THEN the relay never held more than it may
    let bound = (PREFETCH_MIB + 1 + WINDOW_MIB + ROOM_MIB) * MIB;
    let grown = after.peak - before.resident;
    assert!(grown < bound, "grown by {} MiB: {before:?} {away:?} {after:?}", grown / MIB);
    assert_nobody_blamed(&session).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_no_snapshot_is_held_while_the_broker_is_away() {
    // GIVEN more rows than the prefetch holds, and no broker
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let (proxy, through) = Proxy::in_front_of(&Services::amqp()).await;
    proxy.set(Network::Down);
    let stage = stage
        .set("target.amqp", "url", format!("{through:?}"))
        .set("source", "prefetch_rows_max", 500)
        .set("source", "batch_rows_max", 100);
    let session = stage.session().await;
    Batch::orders(3000).write(&session).await;
    let relay: RelayProcess = RelayStart::new(&stage.config).spawn();
    proxy.wait_connections(2).await;

    // WHEN its sessions are looked at over a while
    let transactions = format!(
        "SELECT pid, xact_start::text FROM pg_stat_activity
         WHERE datname = current_database() AND application_name <> '{APPLICATION_NAME}'
           AND backend_type = 'client backend' AND xact_start IS NOT NULL"
    );
    let look = async || {
        let rows = session.query(&transactions, &[]).await.expect("activity can be read");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect::<Vec<(i32, String)>>()
    };
    let mut before = look().await;
    for _ in 0..3 {
        proxy.wait_connections(1).await;
        let now = look().await;

        // THEN no transaction is seen twice, and no slot holds WAL
        let same: Vec<_> = now.iter().filter(|one| before.contains(one)).collect();
        assert!(same.is_empty(), "a transaction that waits for the broker: {same:?}");
        before = now;
    }
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()";
    assert_eq!(session.count(slots).await, 0);

    proxy.set(Network::Up);
    stage.wait_received(3000).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}
