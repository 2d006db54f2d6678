//! What is read of the ledgers, on a real table.

use std::time::Duration;

use outbox_relay::keeper::horizon::{self, LedgerHorizon};

use super::outbox::Outbox;

#[tokio::test]
async fn the_horizon_is_read_in_one_statement() {
    // GIVEN nothing yet
    let outbox = Outbox::create().await;
    let empty = horizon::read(&*outbox.session, &outbox.schema, Duration::ZERO).await.unwrap();
    assert_eq!((empty.floor, empty.last_id, empty.ledgers), (1, 0, vec![]));
    // GIVEN two ledgers
    outbox.insert(20).await;
    outbox.settle("a", "{[1,8),[9,12)}").await;
    outbox.open_hole("a", "{[6,7),[10,11)}").await;
    outbox.dead_range("a", "{[3,4)}").await;
    outbox.settled_ago("a", 5, 2).await;
    outbox.settled_ago("a", 7, 0).await;
    outbox.settle("b", "{}").await;
    outbox.settled_ago("b", 5, -2).await;
    // WHEN
    let read = horizon::read(&*outbox.session, &outbox.schema, Duration::from_secs(3_600)).await;
    let read = read.unwrap();
    // THEN
    assert_eq!((read.floor, read.last_id), (1, 20));
    let a = LedgerHorizon {
        target: "a".to_owned(),
        gap: 8,
        end: 12,
        hole: Some(6),
        aged: Some(5),
        ahead: false,
    };
    let b = LedgerHorizon {
        target: "b".to_owned(),
        gap: 1,
        end: 1,
        hole: None,
        aged: None,
        ahead: true,
    };
    assert_eq!(read.ledgers, [a, b]);
}

#[tokio::test]
async fn the_last_id_is_known_by_whatever_name_and_after_a_restart() {
    let outbox = Outbox::create().await;
    let last_id = async || {
        horizon::read(&*outbox.session, &outbox.schema, Duration::ZERO).await.unwrap().last_id
    };
    assert_eq!(last_id().await, 0);
    outbox.insert(3).await;
    outbox.run("ALTER SEQUENCE outbox.message_id_seq RENAME TO \"ids of messages\"").await;
    assert_eq!(last_id().await, 3);
    outbox.run("ALTER TABLE outbox.message ALTER id RESTART WITH 1000").await;
    assert_eq!(last_id().await, 999, "none of the new ones has been drawn");
}
