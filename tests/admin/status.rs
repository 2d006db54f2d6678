//! Where each target stands.

use std::time::Duration;

use outbox_relay::admin::backend::Backend;
use outbox_relay::admin::status::{Count, Holes, Status, status};
use outbox_relay::command::status::render;
use outbox_relay::keeper::horizon::Held;
use outbox_relay::schema::Schema;
use time::macros::datetime;
use tokio::task::JoinSet;

use crate::keeper::outbox::{Outbox, pid, settle};
use crate::support::database::Database;
use crate::support::services::Services;
use crate::support::session::Session;

async fn read(outbox: &mut Outbox, configured: &[&str]) -> Status {
    let configured: Vec<String> = configured.iter().map(|&name| name.to_owned()).collect();
    let (keep, sample) = (Duration::ZERO, Duration::ZERO);
    status(&mut outbox.session, &outbox.schema, &configured, keep, sample).await.unwrap()
}

/// Two ledgers, one of them not configured, and one name that has none yet.
async fn busy_outbox() -> Outbox {
    let outbox = Outbox::create().await;
    outbox.insert(9).await;
    outbox.run("UPDATE outbox.meta SET late_rows = 4").await;
    outbox.settle("lake", "{[1,6),[8,9)}").await;
    outbox.open_hole("lake", "{[2,3),[4,5)}").await;
    outbox.dead_range("lake", "{[100,101),[200,201)}").await;
    outbox.retry("lake", 1).await;
    outbox.retry("lake", 8).await;
    outbox.run("UPDATE outbox.retry SET class = 'late' WHERE id = 8").await;
    outbox.bury("lake", 3, "too large").await;
    outbox.bury("lake", 8, "requeued").await;
    outbox.settle("old", "{[1,3)}").await;
    outbox
}

#[tokio::test]
async fn every_number_counts_what_it_says() {
    // GIVEN
    let mut outbox = busy_outbox().await;
    outbox
        .run(
            "ALTER TABLE outbox.message DISABLE TRIGGER refuse_update;
                UPDATE outbox.message SET created_at = now() - interval '1 h' WHERE id = 2",
        )
        .await;
    // WHEN
    let status = read(&mut outbox, &["lake", "new"]).await;
    // THEN
    assert_eq!((status.floor, status.last_id, status.late_rows), (1, 9, 4));
    assert_eq!(status.held, Held::OpenHole { target: "lake".to_owned(), id: 2 });
    let [lake, new, old] = status.targets.as_slice() else { panic!("{status:?}") };
    assert_eq!((lake.configured, new.configured, old.configured), (true, true, false));
    assert_eq!((lake.started, new.started, old.started), (true, false, true));
    // 6, 7, 9, and in open holes 2, 4
    assert_eq!(lake.pending, Count { rows: 5, at_least: false });
    let oldest = lake.oldest_pending_s.unwrap();
    assert!((3_600.0..7_200.0).contains(&oldest), "{oldest}");
    assert_eq!(
        lake.retry.iter().map(|(class, rows)| (class.as_str(), *rows)).collect::<Vec<_>>(),
        [("late", 1), ("refused", 1)]
    );
    assert_eq!(lake.dead, 1);
    assert_eq!(lake.open_holes, Holes { ranges: 2, ids: 2, lowest: Some(2) });
    assert_eq!(lake.dead_ranges, 2);
    assert!(lake.marked_at.is_some());
    assert_eq!(old.pending, Count { rows: 7, at_least: false });
}

#[tokio::test]
async fn leader_keeper_and_whoever_keeps_a_hole_open_are_named() {
    // GIVEN a relay, a keeper, a writer with an open transaction
    let mut outbox = busy_outbox().await;
    let relay = outbox.another().await;
    relay
        .run(
            "SET application_name = 'outbox-relay lake';
               SELECT pg_advisory_lock(k1, k2) FROM outbox.lock_key('lake')",
        )
        .await;
    let keeper = outbox.another().await;
    keeper.run("SELECT pg_advisory_lock(k1, k2) FROM outbox.lock_key('@keeper')").await;
    let writer = outbox.another().await;
    writer
        .run(
            "SET application_name = 'shop'; BEGIN; INSERT INTO outbox.message (topic) VALUES ('x')",
        )
        .await;
    // WHEN
    let status = read(&mut outbox, &["lake", "new"]).await;
    // THEN
    let leader = status.targets[0].leader.as_ref().unwrap();
    assert_eq!(
        (leader.pid, leader.application.as_deref()),
        (Some(pid(&relay).await), Some("outbox-relay lake"))
    );
    assert_eq!(status.keeper.unwrap().pid, Some(pid(&keeper).await));
    let [holder] = status.writers.as_slice() else { panic!("{:?}", status.writers) };
    assert_eq!(
        (holder.pid, holder.application.as_deref()),
        (Some(pid(&writer).await), Some("shop"))
    );
    assert_eq!(holder.state.as_deref(), Some("idle in transaction"));
    assert!(holder.since.is_some());
    // AND to a role that may not read statistics, by its pid
    let role = outbox.database.create_relay().await;
    outbox.session = Session::connect(&outbox.database.url_as(&role)).await;
    let status = read(&mut outbox, &["lake"]).await;
    let [holder] = status.writers.as_slice() else { panic!("{:?}", status.writers) };
    assert_eq!((holder.pid, holder.state.as_deref()), (Some(pid(&writer).await), None));
}

#[tokio::test]
async fn a_prepared_transaction_is_named_and_the_keeper_is_not() {
    // GIVEN a hole, a transaction that was prepared by a session that is gone, a keeper that deletes
    let database = Database::create_on(&Services::postgres_two_phase()).await;
    let session = database.connect().await;
    let mut outbox = Outbox { database, session, schema: Schema::default() };
    let gid = format!("{}_a", outbox.database.name);
    let writer = outbox.another().await;
    writer.run("BEGIN; INSERT INTO outbox.message (topic) VALUES ('x')").await;
    writer.run(&format!("PREPARE TRANSACTION '{gid}'")).await;
    drop(writer);
    outbox.settle("lake", "{[1,2)}").await;
    outbox.open_hole("lake", "{[1,2)}").await;
    let keeper = outbox.another().await;
    keeper
        .run(
            "SELECT pg_advisory_lock(k1, k2) FROM outbox.lock_key('@keeper');
             BEGIN; SET LOCAL outbox_relay.keeper = 'on'; DELETE FROM outbox.message WHERE id = 0",
        )
        .await;
    // WHEN
    let status = read(&mut outbox, &["lake"]).await;
    // THEN
    let [holder] = status.writers.as_slice() else { panic!("{:?}", status.writers) };
    assert_eq!((holder.pid, holder.prepared.as_deref()), (None, Some(&*gid)));
    outbox.run(&format!("ROLLBACK PREPARED '{gid}'")).await;
}

#[tokio::test]
async fn the_rate_counts_messages_and_not_holes() {
    // GIVEN a status that is being measured
    let outbox = Outbox::create().await;
    outbox.insert(10).await;
    outbox.settle("lake", "{[1,3)}").await;
    let mut session = outbox.another().await;
    let (measuring, schema) = (pid(&session).await, outbox.schema.clone());
    let mut task = JoinSet::new();
    task.spawn(async move {
        let (keep, sample) = (Duration::ZERO, Duration::from_secs(1));
        status(&mut session, &schema, &["lake".to_owned()], keep, sample).await.unwrap()
    });
    // WHEN, after its first look, 8 ids are settled of which 3 are holes
    let looked = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = {measuring} AND state = 'idle' AND query = 'COMMIT'"
    );
    crate::support::patience::until("the first look", async || {
        (outbox.count(&looked).await == 1).then_some(())
    })
    .await;
    settle(&outbox.session, "lake", "{[3,11)}").await;
    outbox.open_hole("lake", "{[4,6)}").await;
    outbox.dead_range("lake", "{[8,9),[50,60)}").await;
    let status = task.join_next().await.unwrap().unwrap();
    // THEN
    let rate = status.targets[0].settled_per_s.unwrap();
    assert!(rate > 0.0 && rate <= 5.0, "{rate}");
}

#[tokio::test]
async fn the_status_reads_without_colour() {
    // GIVEN
    let mut outbox = busy_outbox().await;
    let mut status = read(&mut outbox, &["lake", "new"]).await;
    let session = Backend {
        pid: Some(4711),
        prepared: None,
        application: Some("shop".to_owned()),
        client: Some("10.0.0.7".to_owned()),
        user: Some("app".to_owned()),
        state: Some("idle in transaction".to_owned()),
        since: Some(datetime!(2026-01-02 03:04:05 UTC)),
    };
    for target in &mut status.targets {
        target.marked_at = target.marked_at.map(|_| datetime!(2026-01-02 03:04:05 UTC));
        target.oldest_pending_s = target.oldest_pending_s.map(|_| 3_725.0);
    }
    status.at = datetime!(2026-01-02 03:05:15 UTC);
    status.targets[0].settled_per_s = Some(1_234.5);
    status.targets[0].leader = Some(session.clone());
    status.targets[2].pending = Count { rows: 1_000_000, at_least: true };
    status.writers = vec![
        session.clone(),
        Backend {
            pid: None,
            prepared: Some("gid 7".to_owned()),
            application: None,
            client: None,
            state: None,
            ..session
        },
    ];
    // WHEN, THEN
    insta::assert_snapshot!(render(&status, 1), @r#"
    TARGET  PENDING    OLDEST  RETRY  DEAD  HOLES  SETTLED/S  MARKED                LEADER
    lake    5          1h 2m   2      1     2      1234       2026-01-02T03:04:05Z  pid 4711 at 10.0.0.7
    new     -          -       0      0     0      -          -                     none
    old     ≥ 1000000  1h 2m   0      0     0      -          2026-01-02T03:04:05Z  none

    keeper   none
    last id  9
    floor    1; held by target lake: 2 is an open hole
    open     pid 4711, application shop, user app, client 10.0.0.7, state idle in transaction, since 2026-01-02T03:04:05Z: open for 1m 10s, its ids are waited for
    open     prepared transaction "gid 7", user app, since 2026-01-02T03:04:05Z: open for 1m 10s, its ids are waited for
    retry    lake: 1 late and out of order, 1 refused and tried again
    warning  4 late rows were found so far: given up, and committed; they are delivered out of order
    warning  target lake has 2 dead ranges, more than dead_ranges_max; hint: a shorter keep, or fewer rollbacks after the insert
    warning  target new has no ledger yet; its first run makes it
    warning  target old is not configured and holds retention back; hint: outbox-relay target remove old
    warning  there is no keeper, nothing is deleted
    "#);
    // AND an outbox where all is well says so
    let mut outbox = Outbox::create().await;
    outbox.insert(3).await;
    outbox.settle("lake", "{[1,4)}").await;
    let mut status = read(&mut outbox, &["lake"]).await;
    status.targets[0].marked_at = None;
    let relay = Backend {
        pid: Some(1),
        prepared: None,
        application: None,
        client: None,
        user: None,
        state: None,
        since: None,
    };
    status.targets[0].leader = Some(relay.clone());
    status.keeper = Some(relay);
    insta::assert_snapshot!(render(&status, 1_000_000), @r#"
    TARGET  PENDING  OLDEST  RETRY  DEAD  HOLES  SETTLED/S  MARKED  LEADER
    lake    0        -       0      0     0      -          -       pid 1

    keeper   pid 1
    last id  3
    floor    1; everything is settled
    "#);
}

/// Issue 17: `exchange "orders"` was parked, which exists, and nothing said why.
#[tokio::test]
async fn a_parked_destination_stands_with_what_the_broker_said() {
    // GIVEN rows of a parked exchange: the one that was refused is tried again at some time, or is on its
    // way just now
    for tried in ["'2126-01-02 03:04:05Z'", "'infinity'"] {
        let mut outbox = Outbox::create().await;
        outbox.insert(3).await;
        outbox.settle("lake", "{[1,4)}").await;
        let refusal = "403 ACCESS_REFUSED - write access to exchange \u{1b}[2J refused";
        let rows = format!(
            "INSERT INTO outbox.retry (target, id, key, holds, attempts, next_at, class, reason, destination)
             VALUES ('lake', 1, 'a', true, 0, {tried}, 'parked', '{refusal}', 'exchange \"orders\"'),
                    ('lake', 2, 'b', true, 0, 'infinity', 'parked', 'its destination is parked',
                     'exchange \"orders\"')"
        );
        outbox.run(&rows).await;
        // WHEN
        let status = read(&mut outbox, &["lake"]).await;
        // THEN for people, and for programs
        let text = render(&status, 1_000_000);
        let line = text.lines().find(|line| line.starts_with("parked")).expect("a line");
        assert!(
            line.starts_with("parked   lake: 2 rows wait for exchange \"orders\", the oldest for ")
        );
        let reason = ": 403 ACCESS_REFUSED - write access to exchange \\u{1b}[2J refused";
        assert!(line.ends_with(reason), "{line}");
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["targets"][0]["parked"][0]["reason"], refusal);
    }
}

#[tokio::test]
async fn what_holds_the_floor_is_said_in_words() {
    let mut outbox = Outbox::create().await;
    outbox.insert(3).await;
    outbox.settle("old", "{[1,2)}").await;
    let mut status = read(&mut outbox, &[]).await;
    let target = || "old".to_owned();
    let cases = [
        Held::Nothing,
        Held::NoLedger,
        Held::IdentityWentBack { last_id: 7, target: None },
        Held::Pending { target: target(), id: 2 },
        Held::OpenHole { target: target(), id: 2 },
        Held::Keep { target: target() },
        Held::ClockWentBack { target: target() },
        Held::DeadRanges { id: 9 },
    ];
    let mut said = String::new();
    for held in cases {
        status.held = held;
        let text = render(&status, 1);
        said += text.lines().find(|line| line.starts_with("floor")).unwrap();
        said.push('\n');
    }
    insta::assert_snapshot!(said, @r#"
    floor    1; everything is settled
    floor    1; no target has a ledger, nothing is deleted
    floor    1; stopped, the identity went back to 7; `outbox-relay check` has the remedy
    floor    1; held by target old (not configured): 2 is pending
    floor    1; held by target old (not configured): 2 is an open hole
    floor    1; the rest is younger than keep, by target old (not configured)
    floor    1; held by target old (not configured): its last watermark lies in the future, the database's clock was set back
    floor    1; held at 9 by dead_ranges_max for one round
    "#);
}

#[tokio::test]
async fn an_open_transaction_is_named_with_its_age_and_its_ids_are_holes() {
    // GIVEN a row that a transaction has inserted and not committed, and settled ones around it
    let mut outbox = Outbox::create().await;
    outbox.insert(2).await;
    let writer = outbox.another().await;
    writer.run("SET application_name = 'batch'; BEGIN; INSERT INTO outbox.message (topic) VALUES ('x')").await;
    outbox.insert(2).await;
    outbox.settle("lake", "{[1,3),[4,6)}").await;
    // WHEN the status is read THEN the gap is a hole, and who keeps it open is named
    let status = read(&mut outbox, &["lake"]).await;
    let holes = status.targets[0].open_holes;
    assert_eq!((holes.ranges, holes.ids, holes.lowest), (1, 1, Some(3)));
    let [found] = status.writers.as_slice() else { panic!("{:?}", status.writers) };
    assert_eq!(found.application.as_deref(), Some("batch"));
    assert!(found.pid.is_some() && found.user.is_some() && found.since.is_some());
    let text = render(&status, 1);
    assert!(text.contains("application batch") && text.contains("open for 0."), "{text}");
    // WHEN it is rolled back THEN there is neither
    writer.run("ROLLBACK").await;
    let status = read(&mut outbox, &["lake"]).await;
    assert_eq!(status.targets[0].open_holes.ids, 0);
    assert!(status.writers.is_empty());
}
