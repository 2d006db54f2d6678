//! Keys and destinations that wait: who holds them, and how they are let go.

use outbox_relay::admin::AdminError;
use outbox_relay::admin::give_up::{GivenUp, Which, give_up};
use outbox_relay::admin::hold::{self, Released};
use outbox_relay::admin::parked;
use outbox_relay::command::hold::{render_given_up, render_list, render_released};
use outbox_relay::decision::Decision;
use time::macros::datetime;

use crate::keeper::outbox::Outbox;
use crate::support::consumer::{AmqpDestination, Consumer, Destination, QueueKind};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::progress::wait_settled;
use crate::support::relay::{RelayProcess, command};
use crate::support::services::Services;
use crate::support::stage::{Stage, unique};
use crate::support::writer::{Batch, committed};

const ADA: Decision<'_> = Decision { by: Some("ada"), reason: None };

/// Keys of `lake` that wait for a person (`a`), for a time (`b`) and for a destination (`c`), each with
/// rows behind its head; rows that hold nobody; and the same key held for `mill`.
async fn held() -> Outbox {
    let outbox = Outbox::create().await;
    outbox.insert(12).await;
    outbox.settle("lake", "{[1,13)}").await;
    outbox.settle("mill", "{[1,13)}").await;
    outbox.bury("lake", 1, "illegal routing key").await;
    outbox
        .run(
            "INSERT INTO outbox.retry
                 (target, id, key, holds, attempts, next_at, class, reason, destination) VALUES
             ('lake', 1, 'a', true, 3, 'infinity', 'poison', NULL, NULL),
             ('lake', 2, 'a', true, 0, NULL, 'held', NULL, NULL),
             ('lake', 3, 'a', true, 0, NULL, 'held', NULL, NULL),
             ('lake', 4, 'b', true, 2, '2126-01-02 03:04:05Z', 'refused', 'nacked', NULL),
             ('lake', 5, 'b', true, 0, NULL, 'held', NULL, NULL),
             ('lake', 6, 'c', true, 0, '2126-01-02 03:04:05Z', 'parked', 'no exchange', 'exchange \"x\"'),
             ('lake', 7, 'd', true, 0, 'infinity', 'parked', 'its destination is parked', 'exchange \"x\"'),
             ('lake', 8, NULL, true, 0, 'infinity', 'parked', 'no queue', 'exchange \"y\"'),
             ('lake', 9, 'e', false, 0, now(), 'replayed', NULL, NULL),
             ('mill', 4, 'b', true, 1, '2126-01-02 03:04:05Z', 'refused', 'nacked', NULL);
             UPDATE outbox.retry SET created_at = '2026-01-02 03:04:05Z'",
        )
        .await;
    outbox
}

#[tokio::test]
async fn each_held_key_names_its_head() {
    let outbox = held().await;
    let keys = hold::list(&*outbox.session, &outbox.schema, "lake", None, 100).await.unwrap();
    let destinations = parked::list(&*outbox.session, &outbox.schema, "lake", 100).await.unwrap();
    insta::assert_snapshot!(render_list(&keys, &destinations, 100), @r#"
    TARGET  KEY  HELD BY  BEHIND  WHY      ATTEMPTS  NEXT                                        REASON
    lake    a    1        2       poison   3         hold release, dead requeue or dead discard  illegal routing key
    lake    b    4        1       refused  2         2126-01-02T03:04:05Z                        nacked
    lake    c    6        0       parked   0         2126-01-02T03:04:05Z                        no exchange
    lake    d    7        0       parked   0         with its destination                        its destination is parked

    TARGET  PARKED        ROWS  SINCE                 NEXT                  REASON
    lake    exchange "x"  2     2026-01-02T03:04:05Z  2126-01-02T03:04:05Z  no exchange
    lake    exchange "y"  1     2026-01-02T03:04:05Z  -                     no queue
    "#);
    let list = async |key: Option<&str>, rows| {
        let keys = hold::list(&*outbox.session, &outbox.schema, "lake", key, rows).await.unwrap();
        keys.iter().map(|key| key.id).collect::<Vec<_>>()
    };
    assert_eq!(list(Some("b"), 100).await, [4]);
    assert_eq!(list(Some("e"), 100).await, [0_i64; 0]);
    assert_eq!(list(None, 2).await, [1, 4]);
    assert_eq!(keys[1].next_at, Some(datetime!(2126-01-02 03:04:05 UTC)));
    insta::assert_snapshot!(render_list(&[], &[], 5), @"no key is held");
}

#[tokio::test]
async fn a_released_key_goes_on_with_its_next_row() {
    // GIVEN
    let mut outbox = held().await;
    let due = "outbox.retry WHERE target = 'lake' AND next_at <= now() AND class <> 'replayed'";
    let mut said = String::new();
    for (key, expected) in [
        ("a", Released { rows: 2, head: Some(1), let_go: true, due: Some(2) }),
        ("b", Released { rows: 1, head: Some(4), let_go: false, due: Some(4) }),
        ("nobody", Released { rows: 0, head: None, let_go: false, due: None }),
    ] {
        // WHEN it is only asked, and then done
        for dry_run in [true, false] {
            let before = outbox.ids("outbox.retry WHERE target = 'lake'").await;
            let (session, schema) = (&mut outbox.session, &outbox.schema);
            let released = hold::release(session, schema, "lake", key, &ADA, dry_run).await;
            let released = released.unwrap();
            assert_eq!(released, expected, "{key}");
            said += &render_released(key, dry_run, &released);
            let after = outbox.ids("outbox.retry WHERE target = 'lake'").await;
            assert_eq!(before == after, dry_run || !expected.let_go, "{key}");
        }
    }
    // THEN the next rows are due, for this target alone, and the dead message stays dead
    assert_eq!(outbox.ids(due).await, [2, 4]);
    assert_eq!(outbox.ids("outbox.dead").await, [1]);
    assert_eq!(outbox.ids("outbox.retry WHERE target = 'mill' AND next_at > now()").await, [4]);
    let audit = "SELECT count(*) FROM outbox.decision
                 WHERE command = 'hold release' AND target = 'lake' AND decided_by = 'ada'
                   AND filter IN ('{\"key\": \"a\"}', '{\"key\": \"b\"}')";
    assert_eq!(outbox.count(audit).await, 2);
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.decision").await, 2);
    // AND again there is nothing to do
    let again = hold::release(&mut outbox.session, &outbox.schema, "lake", "b", &ADA, false).await;
    let again = again.unwrap();
    assert_eq!((again.rows, again.due), (0, Some(4)));
    said += &render_released("b", false, &again);
    insta::assert_snapshot!(said, @r#"
    message 1 would hold key "a" no longer; it stays dead
    message 2 of key "a" would be due now
    message 1 holds key "a" no longer; it stays dead
    message 2 of key "a" is due now
    message 4 of key "b" would be due now
    message 4 of key "b" is due now
    key "nobody" is not held
    key "nobody" is not held
    message 4 of key "b" is due already
    "#);
    let unknown =
        hold::release(&mut outbox.session, &outbox.schema, "nobody", "b", &ADA, false).await;
    assert!(matches!(unknown, Err(AdminError::UnknownTarget { .. })), "{unknown:?}");
}

#[tokio::test]
async fn a_released_destination_is_tried_at_once() {
    let mut outbox = held().await;
    let due = "outbox.retry WHERE class = 'parked' AND next_at <= now()";
    for dry_run in [true, false] {
        let (session, schema) = (&mut outbox.session, &outbox.schema);
        let name = "exchange \"x\"";
        let released = parked::release(session, schema, "lake", name, &ADA, dry_run).await;
        assert_eq!(released.unwrap().rows, 2);
        let ids: &[i64] = if dry_run { &[] } else { &[6, 7] };
        assert_eq!(outbox.ids(due).await, ids);
        let audit = "SELECT count(*) FROM outbox.decision
                     WHERE rows = 2 AND filter = '{\"destination\": \"exchange \\\"x\\\"\"}'";
        assert_eq!(outbox.count(audit).await, i64::from(!dry_run));
    }
}

/// GIVEN a key that a dead message holds WHEN a person releases it THEN its other messages come, in
/// order, and the dead one stays dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_key_flows_in_order() {
    const ROWS: usize = 100;
    const SHARE: usize = 25;
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let exchange = stage.exchange();
    let route = |topic: &str, key: &str| {
        format!("{{ topic = \"{topic}\", exchange = \"{exchange}\", routing_key = \"{key}\" }}")
    };
    let too_long = format!("{{{{ headers.to | '{}' }}}}", "x".repeat(256));
    let routes = format!("[{}, {}]", route("poison", &too_long), route("*", "{{ topic }}"));
    let stage = stage.set("target.amqp", "route", routes);
    let stage = stage.set("target.amqp", "on_poison", "\"hold_key\"");
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    session
        .run("INSERT INTO outbox.message (topic, key, payload) VALUES ('poison', 'key-1', 'x')")
        .await;
    until("the poison to be dead", async || {
        (session.count("SELECT count(*) FROM outbox.dead").await == 1).then_some(())
    })
    .await;
    Batch { keys: 4, ..Batch::orders(ROWS) }.write(&session).await;
    stage.wait_received(ROWS - SHARE).await;
    until("the rest of the key to be held", async || {
        let held = "SELECT count(*) FROM outbox.retry WHERE class = 'held'";
        (session.count(held).await == SHARE as i64).then_some(())
    })
    .await;

    let output = command(&stage.config, &["hold", "list"]).await;
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(list.contains("key-1") && list.contains("poison"), "{list}");
    let release = ["hold", "release", "--target", "amqp", "--key", "key-1", "--reason", "not ours"];
    let output = command(&stage.config, &release).await;
    assert!(output.status.success(), "{output:?}");
    stage.wait_received(ROWS).await;
    wait_settled(&session, 1).await;
    assert_eq!(session.count("SELECT count(*) FROM outbox.dead").await, 1);
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

/// GIVEN rows that wait for an exchange that is missing WHEN it is there and a person releases it THEN
/// they come, in order. (They would come by themselves within the half minute of the probe.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_destination_gets_its_rows() {
    const ROWS: usize = 60;
    let stage = Stage::new(Database::create().await).await;
    let name = unique();
    let missing =
        AmqpDestination { url: Services::amqp(), exchange: name.clone(), queue: name.clone() };
    let config = stage.config.clone().amqp("amqp", &missing);
    let config = config.set("target.amqp", "retry_backoff_min", "\"1h\"").set(
        "target.amqp",
        "retry_backoff_max",
        "\"1h\"",
    );
    let session = stage.session().await;
    Batch { keys: 4, ..Batch::orders(ROWS) }.write(&session).await;
    let relay = RelayProcess::start(&config).await;
    until("every row to wait", async || {
        let waiting = "SELECT count(*) FROM outbox.retry WHERE class IN ('parked', 'held')";
        (session.count(waiting).await == ROWS as i64).then_some(())
    })
    .await;

    missing.declare_exchange().await.unwrap();
    missing.declare_queue(QueueKind::Classic, "#").await.unwrap();
    let consumer = Consumer::start(Destination::Amqp(missing));
    let destination = format!("exchange {name:?}");
    let status = command(&config, &["status", "--sample", "0s"]).await;
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains(&format!("wait for {destination}")), "{status}");
    let release = ["hold", "release", "--target", "amqp", "--destination", &destination];
    let output = command(&config, &release).await;
    assert!(output.status.success(), "{output:?}");
    consumer.wait_received(ROWS).await;
    wait_settled(&session, 1).await;
    assert!(relay.terminate().await.success());
    consumer.drain().await;
    crate::support::checker::check(&committed(&session).await, &consumer.deliveries())
        .assert_exact("amqp");
}

/// GIVEN rows that wait for a destination, and a key that a refused row holds WHEN they are given up,
/// first only asked THEN they are dead with their content and reason, the next row of each key is due,
/// what is being tried at that moment is left, and who decided is recorded.
#[tokio::test]
async fn what_waits_is_given_up_by_name() {
    let mut outbox = held().await;
    outbox
        .run(
            "UPDATE outbox.retry SET next_at = now() WHERE id = 7;
             INSERT INTO outbox.retry (target, id, key, holds, attempts, next_at, class) VALUES
             ('lake', 10, 'c', true, 0, NULL, 'held'), ('lake', 11, 'c', true, 0, NULL, 'held')",
        )
        .await;
    let mut said = String::new();
    let due = "outbox.retry WHERE target = 'lake' AND next_at <= now() AND id > 9";
    let name = "exchange \"x\"";
    for dry_run in [true, false] {
        let (session, schema) = (&mut outbox.session, &outbox.schema);
        let which = Which::Destination(name);
        let given = give_up(session, schema, "lake", which, &ADA, dry_run).await.unwrap();
        assert_eq!(given, GivenUp { rows: 1, ids: vec![6], due: 1, left: 1 });
        said += &render_given_up(dry_run, &given);
        let (dead, ids): (&[i64], &[i64]) = if dry_run { (&[1], &[]) } else { (&[1, 6], &[10]) };
        assert_eq!(outbox.ids("outbox.dead WHERE target = 'lake'").await, dead);
        assert_eq!(outbox.ids(due).await, ids);
    }
    for (key, rows) in [("b", 1), ("a", 0), ("nobody", 0)] {
        let (session, schema) = (&mut outbox.session, &outbox.schema);
        let given = give_up(session, schema, "lake", Which::Key(key), &ADA, false).await.unwrap();
        assert_eq!(given.rows, rows, "{key}");
        said += &render_given_up(false, &given);
    }
    insta::assert_snapshot!(said, @r"
    1 messages would go to dead; 1 that waited behind them would be due
    1 others are being tried at this moment; hint: run it again
    1 messages went to dead; 1 that waited behind them are due
    1 others are being tried at this moment; hint: run it again
    1 messages went to dead; 1 that waited behind them are due
    0 messages went to dead
    0 messages went to dead
    ");
    let dead = "SELECT count(*) FROM outbox.dead WHERE target = 'lake' AND payload = 'x'
                  AND class = 'given_up'
                  AND reason IN ('given up while it waited for exchange \"x\": no exchange',
                                 'given up: nacked')";
    assert_eq!(outbox.count(dead).await, 2);
    assert_eq!(outbox.ids("outbox.retry WHERE target = 'mill'").await, [4], "another target");
    let audit = "SELECT count(*) FROM outbox.decision WHERE command = 'hold give-up'
                   AND target = 'lake' AND decided_by = 'ada' AND rows = 1";
    assert_eq!(outbox.count(audit).await, 2);
}
