//! The script of faults does what it says, around a real target.

use outbox_relay::target::{Broken, Reaction, Refusal, Target};

use super::amqp::Rabbit;
use super::driver::Driver;
use super::row::{parts, submission};
use crate::support::faulty::{Fault, Faults, Faulty};

async fn driver(faults: &Faults) -> (Rabbit, Driver<impl Target>) {
    let rabbit = Rabbit::new("faulty", "classic").await;
    let target = Faulty::new(rabbit.target(), faults.clone());
    (rabbit, Driver::connect(target).await)
}

/// GIVEN a refusal for the first submission of a row WHEN it is submitted twice THEN only the second
/// reaches the broker.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_one_submissions() {
    let faults = Faults::default();
    let (rabbit, mut driver) = driver(&faults).await;
    let refusal = Refusal { reaction: Reaction::Retry, reason: "scripted".into() };
    faults.on(2, Fault::Refuse(refusal.clone()));
    driver.publish_all([1, 2, 3].map(|id| submission(parts(id, "good.a"))), 10).await;
    assert_eq!(driver.outcomes.refused, [(2, refusal)]);
    driver.publish_all([submission(parts(2, "good.a"))], 10).await;
    assert_eq!(driver.outcomes.confirmed, [1, 3, 2]);
    assert!(faults.are_spent());
    assert_eq!(rabbit.rows().await, [1, 3, 2]);
}

/// GIVEN a reply that is lost WHEN the row is published THEN the broker has it, and the caller has a
/// lost connection that works again after `connect`.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_leaves_the_row_at_the_broker() {
    let faults = Faults::default();
    let (rabbit, mut driver) = driver(&faults).await;
    faults.on(1, Fault::LoseReply);
    driver.submit(submission(parts(1, "good.a")));
    assert_eq!(driver.broken().await.suspect, None);
    driver.target.disconnect().await;
    driver.reconnect().await;
    driver.publish_all([submission(parts(1, "good.a"))], 10).await;
    assert_eq!(rabbit.rows().await, [1, 1]);
}

/// GIVEN a connection that breaks before a row leaves THEN the broker does not have that row.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_comes_before_the_row() {
    let faults = Faults::default();
    let (rabbit, mut driver) = driver(&faults).await;
    let broken = Broken { reason: "scripted".into(), suspect: Some(Reaction::Retry) };
    faults.on(2, Fault::Break(broken.clone()));
    driver.publish_all([submission(parts(1, "good.a"))], 10).await;
    driver.submit(submission(parts(2, "good.a")));
    driver.submit(submission(parts(3, "good.a")));
    assert_eq!(driver.broken().await, broken);
    driver.target.disconnect().await;
    assert_eq!(rabbit.rows().await, [1]);
}

/// GIVEN an answer that is held back WHEN later ones come THEN it comes only after its release.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_answer_waits_for_its_release() {
    let faults = Faults::default();
    let (_rabbit, mut driver) = driver(&faults).await;
    faults.on(1, Fault::Hold);
    for id in 1..=100 {
        driver.submit(submission(parts(id, "good.a")));
    }
    while driver.outcomes.confirmed.len() < 99 {
        driver.next_events().await;
    }
    assert!(!driver.outcomes.confirmed.contains(&1));
    faults.release();
    driver.settle().await;
    assert_eq!(driver.outcomes.confirmed.last(), Some(&1));
}
