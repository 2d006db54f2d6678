//! Holes: what commits late arrives, what is rolled back is given up, and nothing else is.

use outbox_relay::config::SourceConfig;

use super::consumer::{Consumer, limits};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::services::Services;
use crate::support::session::Session;

const INSERT: &str = "INSERT INTO outbox.message (topic) VALUES ('x')";

/// A reader, and two sessions that write.
async fn reading(database: &Database, limits: SourceConfig) -> (Consumer, Session, Session) {
    let consumer = Consumer::start(database, limits).await;
    (consumer, database.connect().await, database.connect().await)
}

#[tokio::test]
async fn i1_a_row_that_commits_late_arrives() {
    // GIVEN a transaction that has drawn ids 1 and 2, and is open
    let database = Database::create().await;
    let (mut consumer, late, writer) = reading(&database, limits()).await;
    late.run(&format!("BEGIN; {INSERT}; {INSERT}")).await;
    // WHEN a later id is committed
    writer.run(INSERT).await;
    let batch = loop {
        let batch = consumer.batch().await;
        if !batch.rows.is_empty() {
            break batch;
        }
    };
    assert_eq!(batch.rows[0].message.id(), 3);
    assert_eq!(batch.opened.into_iter().flatten().collect::<Vec<_>>(), [1, 2]);
    // and the locks have been read again and again
    for id in 4..10 {
        writer.run(INSERT).await;
        assert_eq!(consumer.ids(1).await, [id]);
    }
    // THEN its rows are still waited for, and arrive
    assert!(consumer.dead.is_empty());
    late.run("COMMIT").await;
    assert_eq!(consumer.ids(2).await, [1, 2]);
    assert!(consumer.open.is_empty());
}

#[tokio::test]
async fn i4_a_row_that_is_rolled_back_is_given_up() {
    // GIVEN a transaction, and a part of another one, that were rolled back
    let database = Database::create().await;
    let (mut consumer, late, writer) = reading(&database, limits()).await;
    late.run(&format!("BEGIN; {INSERT}; ROLLBACK")).await;
    late.run(&format!("BEGIN; SAVEPOINT a; {INSERT}; ROLLBACK TO a; {INSERT}; COMMIT")).await;
    writer.run(INSERT).await;
    // WHEN the reader goes on
    let rows = consumer.read_until(|consumer| consumer.dead.ids_len() == 2).await;
    // THEN exactly what was rolled back is dead
    assert_eq!(rows.iter().map(|row| row.message.id()).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(consumer.dead.to_string(), "{[1,3)}");
    assert!(consumer.open.is_empty());
}

#[tokio::test]
async fn i1_an_id_that_was_drawn_before_anything_else_is_waited_for() {
    // GIVEN an INSERT that has drawn its id and has no transaction id: a BEFORE trigger waits
    let database = Database::create().await;
    let (mut consumer, late, writer) = reading(&database, limits()).await;
    writer
        .run(
            "CREATE FUNCTION wait_for_it() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$;
             CREATE TRIGGER wait BEFORE INSERT ON outbox.message FOR EACH ROW
             WHEN (NEW.topic = 'late') EXECUTE FUNCTION wait_for_it();
             SELECT pg_advisory_lock(42)",
        )
        .await;
    let insert = late.batch_execute("INSERT INTO outbox.message (topic) VALUES ('late')");
    let others = async {
        let waiting = "SELECT count(*) FROM pg_locks
                       WHERE locktype = 'advisory' AND objid = 42 AND NOT granted";
        until("the trigger to wait", async || (writer.count(waiting).await == 1).then_some(()))
            .await;
        // WHEN later ids commit, and the locks are read many times
        for id in 2..40 {
            writer.run(INSERT).await;
            assert_eq!(consumer.ids(1).await, [id]);
        }
        // THEN it is not given up
        assert!(consumer.dead.is_empty());
        assert_eq!(consumer.open.to_string(), "{[1,2)}");
        writer.run("SELECT pg_advisory_unlock(42)").await;
        assert_eq!(consumer.ids(1).await, [1]);
    };
    let (inserted, ()) = tokio::join!(insert, others);
    inserted.expect("the row is written");
}

/// Ids 1 to `2 * count`: the even ones are committed, the odd ones lie in `late`'s open transaction.
async fn interleave(late: &Session, writer: &Session, count: i64) {
    writer
        .run(&format!(
            "SELECT setval(pg_get_serial_sequence('outbox.message', 'id'), {})",
            2 * count
        ))
        .await;
    let insert = "INSERT INTO outbox.message (id, topic) OVERRIDING SYSTEM VALUE SELECT";
    late.run(&format!("BEGIN; {insert} 2 * n - 1, 'x' FROM generate_series(1, {count}) n")).await;
    writer.run(&format!("{insert} 2 * n, 'x' FROM generate_series(1, {count}) n")).await;
}

#[tokio::test]
async fn i8_a_long_transaction_opens_50_000_holes_and_others_flow() {
    const HOLES: usize = 50_000;
    // GIVEN a transaction with every second one of 100,000 ids
    let database = Database::create().await;
    let (late, writer) = (database.connect().await, database.connect().await);
    interleave(&late, &writer, HOLES as i64).await;
    let mut consumer = Consumer::start(&database, limits()).await;
    assert_eq!(consumer.ids(HOLES).await.len(), HOLES);
    assert_eq!(consumer.open.ranges_len(), HOLES);
    // THEN other rows flow
    for n in 1..=5 {
        writer.run(INSERT).await;
        assert_eq!(consumer.ids(1).await, [2 * HOLES as i64 + n]);
    }
    // WHEN it commits, all arrive in cut reads, in order
    late.run("COMMIT").await;
    let ids = consumer.ids(HOLES).await;
    assert!(ids.is_sorted());
    assert!(consumer.open.is_empty());
    assert!(consumer.dead.is_empty());
    // and rows go on to flow
    writer.run(INSERT).await;
    assert_eq!(consumer.ids(1).await, [2 * HOLES as i64 + 6]);
}

#[tokio::test]
async fn i4_a_long_transaction_that_is_rolled_back_leaves_no_hole() {
    const HOLES: usize = 50_000;
    let database = Database::create().await;
    let (late, writer) = (database.connect().await, database.connect().await);
    interleave(&late, &writer, HOLES as i64).await;
    let mut consumer = Consumer::start(&database, limits()).await;
    assert_eq!(consumer.ids(HOLES).await.len(), HOLES);
    late.run("ROLLBACK").await;
    consumer.read_until(|consumer| consumer.dead.ids_len() == HOLES as u64).await;
    assert!(consumer.open.is_empty());
}

#[tokio::test]
async fn i8_at_holes_max_the_reader_stops_advancing_and_names_who_keeps_them_open() {
    // GIVEN more holes than holes_max, of an application that says its name
    let database = Database::create().await;
    let (late, writer) = (database.connect().await, database.connect().await);
    let relay = database.create_relay().await;
    writer.run(&format!("GRANT pg_read_all_stats TO \"{relay}\"")).await;
    late.run("SET application_name = 'slow_report'").await;
    interleave(&late, &writer, 1_000).await;
    let pid = late.count("SELECT pg_backend_pid()::bigint").await;
    let limits = SourceConfig { holes_max: 100, batch_rows_max: 50, ..limits() };
    let start = outbox_relay::source::Start { floor: 1, ..Default::default() };
    let bell = super::consumer::no_bell();
    let mut consumer = Consumer::start_as(&database.url_as(&relay), limits, bell, start).await;
    // THEN the reader stops, and names it
    let before = consumer.read_until(|consumer| consumer.open.ranges_len() >= 100).await;
    let status = consumer.status(|status| status.stalled && status.holder.is_some()).await;
    let holder = status.holder.expect("just looked at");
    assert_eq!(holder.pid.map(i64::from), Some(pid));
    assert_eq!(holder.application_name.as_deref(), Some("slow_report"));
    assert_eq!(holder.state.as_deref(), Some("idle in transaction"));
    assert!(!status.caught_up);
    assert!(before.len() < 200, "{} rows were read", before.len());
    // WHEN it commits
    late.run("COMMIT").await;
    // THEN everything comes
    let rest = consumer.read_until(|consumer| consumer.settled.to_string() == "{[1,2001)}").await;
    assert_eq!(before.len() + rest.len(), 2_000);
    consumer.status(|status| !status.stalled && status.holder.is_none()).await;
}

#[tokio::test]
async fn i1_a_prepared_transaction_is_waited_for_and_blocks_nobody_else() {
    // GIVEN a prepared transaction with id 1, whose session is gone, and one that the reader saw being prepared
    let database = Database::create_on(&Services::postgres_two_phase()).await;
    let (mut consumer, late, writer) = reading(&database, limits()).await;
    late.run(&format!("BEGIN; {INSERT}; PREPARE TRANSACTION '{}_a'", database.name)).await;
    drop(late);
    let late = database.connect().await;
    late.run(&format!("BEGIN; {INSERT}")).await;
    writer.run(INSERT).await;
    assert_eq!(consumer.ids(1).await, [3]);
    late.run(&format!("PREPARE TRANSACTION '{}_b'", database.name)).await;
    // WHEN later ids are rolled back, THEN those are given up in the end (once the locks were read twice
    // with both prepared) while the prepared ones are waited for
    while consumer.dead.is_empty() {
        writer.run(&format!("BEGIN; {INSERT}; ROLLBACK; {INSERT}")).await;
        consumer.batch().await;
    }
    assert!(!consumer.dead.contains(1) && !consumer.dead.contains(2));
    assert_eq!(consumer.open.first(), Some(1..3));
    // and arrive
    late.run(&format!("COMMIT PREPARED '{}_a'", database.name)).await;
    consumer.read_until(|consumer| !consumer.open.contains(1)).await;
    assert!(!consumer.dead.contains(1));
    late.run(&format!("ROLLBACK PREPARED '{}_b'", database.name)).await;
    consumer.read_until(|consumer| consumer.open.is_empty()).await;
    assert!(consumer.dead.contains(2));
}
