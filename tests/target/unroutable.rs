//! Returned among thousands of good ones: lapin attaches a return to whichever confirm comes next.

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use outbox_relay::target::{Reaction, Trouble};

use super::amqp::Rabbit;
use super::driver::Driver;
use super::row::{WINDOW, parts, submission};
use crate::support::patience::wait_for;

/// GIVEN 20,000 messages of which every k-th has a routing key that no queue is bound to
/// WHEN they are published in a large window
/// THEN exactly those are refused and parked, no good one is blamed, and none of them is confirmed.
async fn every_nth_is_unroutable(queue_type: &str, n: i64) {
    let rabbit = Rabbit::new("unroutable", queue_type).await;
    let mut driver = Driver::connect(rabbit.target()).await;
    let bad = |id: i64| id % n == 0;
    let topic = |id| if bad(id) { "bad" } else { "good.a" };
    let rows = 1..=20_000;
    driver.publish_all(rows.clone().map(|id| submission(parts(id, topic(id)))), WINDOW).await;

    let mut refused: Vec<i64> = driver.outcomes.refused.iter().map(|(row, _)| *row).collect();
    // On a busy machine one that waits long steps aside, and the answers come in another order.
    refused.sort_unstable();
    driver.outcomes.confirmed.sort_unstable();
    assert!(refused.iter().copied().eq(rows.clone().filter(|&id| bad(id))), "n = {n}");
    let confirmed = driver.outcomes.confirmed.iter().copied();
    assert!(confirmed.eq(rows.clone().filter(|&id| !bad(id))), "n = {n}");
    for (_, refusal) in &driver.outcomes.refused {
        assert_eq!(refusal.reaction, Reaction::Park(Trouble::Unroutable));
        assert_eq!(
            refusal.reason,
            format!("unroutable: 312 NO_ROUTE, exchange `{}`, routing key `bad`", rabbit.exchange)
        );
    }
    assert!(rabbit.rows().await.into_iter().eq(rows.filter(|&id| !bad(id))));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_classic_queue() {
    for n in [1, 2, 10, 101] {
        every_nth_is_unroutable("classic", n).await;
    }
}

/// Here good messages and returned ones are acknowledged together, many at a time.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_transient_queue() {
    for n in [2, 3, 10, 101] {
        every_nth_is_unroutable("transient", n).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_quorum_queue() {
    for n in [2, 10, 101] {
        every_nth_is_unroutable("quorum", n).await;
    }
}

/// The negative control: who believes the confirm that a return came with, blames good rows.
/// If this ever fails, lapin has changed, and the barrier may not be needed any more.
#[tokio::test(flavor = "multi_thread")]
async fn the_confirm_that_a_return_comes_with_is_not_its_own() {
    let rabbit = Rabbit::new("unroutable", "classic").await;
    let channel = &rabbit.channel;
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirm mode");
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    wait_for("a return that comes with another message's confirm", async {
        loop {
            let mut confirms = vec![];
            for row in 0..10_000 {
                let key = if row % 2 == 0 { "bad" } else { "good.a" };
                let id = row.to_string().as_str().into();
                let properties = BasicProperties::default().with_message_id(id);
                let exchange = rabbit.exchange.as_str().into();
                let publish = channel.basic_publish(exchange, key.into(), options, b"", properties);
                confirms.push(publish.await.expect("the channel is open"));
            }
            let mut wrong = 0;
            for (row, confirm) in confirms.into_iter().enumerate() {
                let returned = confirm.await.expect("the channel is open").take_message();
                let id = returned.as_ref().and_then(|r| r.properties.message_id().as_ref());
                let said = id.map(|id| id.as_str().parse::<usize>().unwrap());
                wrong += usize::from(said != (row % 2 == 0).then_some(row));
            }
            if wrong > 0 {
                break;
            }
        }
    })
    .await;
}
