//! Settled messages, sent to one target once more.

use std::collections::BTreeMap;

use lapin::options::BasicGetOptions;
use lapin::types::AMQPValue;
use lapin::{Connection, ConnectionProperties};
use outbox_relay::admin::AdminError;
use outbox_relay::admin::replay::{Choice, Replayed, Request, replay};
use outbox_relay::command::replay::render;
use outbox_relay::decision::Decision;
use outbox_relay::route::template::Template;
use outbox_relay::route::{Destination, Pattern, RouteConfig, Router};
use serde_json::Value;
use time::macros::datetime;
use uuid::Uuid;

use crate::keeper::outbox::Outbox;
use crate::support::consumer::{AmqpDestination, QueueKind};
use crate::support::database::Database;
use crate::support::progress::wait_settled;
use crate::support::relay::{RelayProcess, command};
use crate::support::services::Services;
use crate::support::stage::{Stage, unique};
use crate::support::writer::Batch;

const ADA: Decision<'_> = Decision { by: Some("ada"), reason: Some("the lake was drained") };

/// Takes what is about orders.
fn router() -> Router {
    let topic = Template::parse("t").unwrap();
    Router::new(vec![RouteConfig {
        topic: Pattern::parse("order.*").unwrap(),
        kind: None,
        destination: Destination::Kafka { topic, headers: Vec::new() },
    }])
}

async fn ask(outbox: &mut Outbox, choice: &Choice, rows_max: u64, dry_run: bool) -> Replayed {
    let router = router();
    let request = Request { target: "lake", router: &router, choice, rows_max, dry_run };
    replay(&mut outbox.session, &outbox.schema, &request, &ADA).await.unwrap()
}

/// Nine messages, each in another place for `lake`; all settled for `mill`.
async fn places() -> Outbox {
    let outbox = Outbox::create().await;
    outbox.insert(9).await;
    outbox.run("INSERT INTO outbox.message (topic) VALUES ('stock.moved')").await;
    outbox.settle("lake", "{[1,2),[3,11)}").await;
    outbox.settle("mill", "{[1,11)}").await;
    outbox.retry("lake", 3).await;
    outbox.bury("lake", 4, "too large").await;
    outbox.open_hole("lake", "{[5,6)}").await;
    outbox.bury("mill", 6, "too large").await;
    outbox.retry("mill", 7).await;
    outbox
}

const REPLAYED: &str = "outbox.retry WHERE target = 'lake' AND class = 'replayed' AND NOT holds
    AND attempts = 0 AND next_at <= now() AND key = 'key-' || id";

#[tokio::test]
async fn only_what_is_settled_is_replayed_and_only_for_its_target() {
    // GIVEN
    let mut outbox = places().await;
    let elsewhere = "outbox.retry WHERE target = 'mill'";
    let all = Choice { ids: (1..=10).chain([98, 99]).collect(), ..Choice::default() };
    // WHEN it is only asked, and then done
    for dry_run in [true, false] {
        let replayed = ask(&mut outbox, &all, 1_000, dry_run).await;
        // THEN what is pending (2, and 5 in an open hole), set aside (3, 4) or of no route (10) is left
        let Replayed { rows, pending, set_aside, unrouted, missing, .. } = replayed;
        assert_eq!((rows, pending, set_aside, unrouted, missing), (5, 2, 2, 1, 2));
        assert_eq!(replayed.ids, [1, 6, 7, 8, 9]);
        assert_eq!(replayed.missing_ids, [98, 99]);
        let put: &[i64] = if dry_run { &[] } else { &[1, 6, 7, 8, 9] };
        assert_eq!(outbox.ids(REPLAYED).await, put);
        assert_eq!(outbox.ids(elsewhere).await, [7]);
        assert_eq!(outbox.count("SELECT count(*) FROM outbox.decision").await, i64::from(!dry_run));
        if !dry_run {
            let audit = format!(
                "SELECT count(*) FROM outbox.decision
                 WHERE command = 'replay' AND target = 'lake' AND decided_by = 'ada' AND rows = 5
                   AND reason = 'the lake was drained' AND ids = '{{[1,2),[6,10)}}'
                   AND command_id = '{0}' AND command_id = ALL (
                       SELECT replay_id FROM outbox.retry WHERE class = 'replayed')",
                replayed.replay_id
            );
            assert_eq!(outbox.count(&audit).await, 1);
        }
    }
    // AND what is under way is not replayed a second time
    assert_eq!(ask(&mut outbox, &all, 1_000, false).await.rows, 0);
}

#[tokio::test]
async fn each_filter_narrows_the_replay() {
    let mut outbox = Outbox::create().await;
    outbox
        .run(
            "INSERT INTO outbox.message (topic, key) VALUES
             ('order.placed', 'a'), ('order.paid', 'b'), ('order.paid', 'a'), ('order.sent', NULL);
             ALTER TABLE outbox.message DISABLE TRIGGER refuse_update;
             UPDATE outbox.message SET created_at = timestamptz '2026-01-01 00:00Z' + id * interval '1 h'",
        )
        .await;
    outbox.settle("lake", "{[1,5)}").await;
    let none = Choice::default;
    let topic = |glob: &str| Some(Pattern::parse(glob).unwrap());
    let (two, four) = (datetime!(2026-01-01 02:00 UTC), datetime!(2026-01-01 04:00 UTC));
    let cases: [(Choice, &[i64]); 8] = [
        (none(), &[1, 2, 3, 4]),
        (Choice { ids: vec![4, 2, 2], ..none() }, &[2, 4]),
        (Choice { key: Some("a".to_owned()), ..none() }, &[1, 3]),
        (Choice { topic: topic("order.pa*"), ..none() }, &[2, 3]),
        (Choice { topic: topic("order.paid"), key: Some("b".to_owned()), ..none() }, &[2]),
        (Choice { from: Some(two), to: Some(four), ..none() }, &[2, 3]),
        (Choice { after_id: Some(2), ..none() }, &[3, 4]),
        (Choice { ids: vec![1, 3], after_id: Some(2), from: Some(four), ..none() }, &[]),
    ];
    for (choice, ids) in cases {
        assert_eq!(ask(&mut outbox, &choice, 100, true).await.ids, ids, "{choice:?}");
    }
}

#[tokio::test]
async fn a_large_replay_goes_piece_by_piece_and_can_be_continued() {
    let mut outbox = Outbox::create().await;
    outbox.insert(25_000).await;
    outbox.settle("lake", "{[1,25001)}").await;
    let all = Choice::default();
    // WHEN it is stopped by the limit
    let begun = ask(&mut outbox, &all, 12_345, false).await;
    assert_eq!((begun.rows, begun.more_after), (12_345, Some(12_345)));
    // AND continued
    let rest = Choice { after_id: begun.more_after, ..all };
    let ended = ask(&mut outbox, &rest, 1_000_000, false).await;
    assert_eq!((ended.rows, ended.set_aside, ended.more_after), (12_655, 0, None));
    // THEN each piece was a transaction of its own, with its record
    let pieces = "SELECT count(DISTINCT xmin::text) FROM outbox.decision WHERE rows <= 10000";
    assert_eq!(outbox.count(pieces).await, 4);
    assert_eq!(outbox.count("SELECT sum(rows)::bigint FROM outbox.decision").await, 25_000);
    assert_eq!(outbox.count("SELECT count(DISTINCT replay_id) FROM outbox.retry").await, 2);
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.retry").await, 25_000);
}

#[tokio::test]
async fn a_piece_that_fails_says_where_to_go_on() {
    // GIVEN somebody who refuses what comes after the first piece
    let mut outbox = Outbox::create().await;
    outbox.insert(15_000).await;
    outbox.settle("lake", "{[1,15001)}").await;
    outbox.run("ALTER TABLE outbox.retry ADD CHECK (id <= 10000)").await;
    let (router, choice) = (router(), Choice::default());
    let request = Request {
        target: "lake",
        router: &router,
        choice: &choice,
        rows_max: 1_000_000,
        dry_run: false,
    };
    // WHEN
    let failed = replay(&mut outbox.session, &outbox.schema, &request, &ADA).await;
    // THEN the first piece stays
    let Err(AdminError::Partly { done, hint, .. }) = failed else { panic!("{failed:?}") };
    assert_eq!(done, "10000 messages were put up for replay");
    assert_eq!(hint, "go on with --after-id 10000");
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.retry").await, 10_000);
}

#[tokio::test]
async fn retention_keeps_what_is_replayed_and_what_is_gone_is_said() {
    // GIVEN message 7 kept for mill, everything else below the floor gone
    let mut outbox = Outbox::create().await;
    outbox.insert(9).await;
    outbox.settle("lake", "{[1,10)}").await;
    outbox.settle("mill", "{[1,10)}").await;
    outbox.retry("mill", 7).await;
    outbox.retain().await;
    assert_eq!(outbox.messages().await, [7]);
    // WHEN it is replayed for lake, and mill has got it
    let choice = Choice { ids: vec![6, 7], ..Choice::default() };
    let mut replayed = ask(&mut outbox, &choice, 10, false).await;
    outbox.run("DELETE FROM outbox.retry WHERE target = 'mill'").await;
    // THEN it stays for lake
    assert_eq!(outbox.release().await, 0);
    assert_eq!(outbox.ids(REPLAYED).await, [7]);
    replayed.replay_id = Uuid::nil();
    insta::assert_snapshot!(render(false, &replayed), @"
    1 messages are sent to lake once more: 7
    1 were asked for and are not there: 6
    what lies below id 10 was deleted by retention
    x-outbox-replay: 00000000-0000-0000-0000-000000000000
    ");
    // AND once it has got it, nobody needs it
    outbox.run("DELETE FROM outbox.retry").await;
    assert_eq!(outbox.release().await, 1);
}

/// GIVEN two targets that have everything WHEN a key is replayed for one of them THEN that one, and no
/// other, gets its messages once more: the same message ids, and the id of the replay in the header.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_delivers_the_same_messages_again_to_one_target() {
    let stage = Stage::both(Database::create().await).await;
    let session = stage.session().await;
    Batch { keys: 4, ..Batch::orders(40) }.write(&session).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(40).await;
    wait_settled(&session, 2).await;
    // A second queue, for the header.
    let url = Services::amqp();
    let copy = AmqpDestination {
        url: url.clone(),
        exchange: stage.exchange().to_owned(),
        queue: unique(),
    };
    copy.declare_queue(QueueKind::Classic, "#").await.unwrap();

    let replay = ["replay", "--target", "amqp", "--key", "key-1", "--by", "ada", "--json"];
    let output = command(&stage.config, &replay).await;
    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["rows"], 10, "{answer}");
    wait_settled(&session, 2).await;
    // Only a person who says so replays everything.
    let output = command(&stage.config, &["replay", "--target", "amqp"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");

    let mut deliveries = Vec::new();
    for (name, consumer) in &stage.consumers {
        consumer.drain().await;
        let mut times = BTreeMap::new();
        for delivery in consumer.deliveries() {
            *times.entry(delivery.message_id).or_insert(0) += 1;
        }
        assert_eq!(times.len(), 40, "{name}");
        deliveries.push((*name, times.values().filter(|&&times| times == 2).count()));
    }
    assert_eq!(deliveries, [("amqp", 10), ("kafka", 0)]);
    assert_eq!(replay_ids(&copy).await, vec![answer["replay_id"].as_str().unwrap(); 10]);
    assert!(relay.terminate().await.success());
}

/// The header `x-outbox-replay` of everything in a queue.
async fn replay_ids(queue: &AmqpDestination) -> Vec<String> {
    let properties = ConnectionProperties::default();
    let connection = Connection::connect(&queue.url, properties).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut found = Vec::new();
    let take = BasicGetOptions { no_ack: true };
    while let Some(message) = channel.basic_get(queue.queue.as_str().into(), take).await.unwrap() {
        let headers = message.delivery.properties.headers().clone().unwrap_or_default();
        let header = headers.inner().get("x-outbox-replay").cloned();
        if let Some(AMQPValue::LongString(text)) = header {
            found.push(text.to_string());
        }
    }
    found
}
