//! `order = "strict"`: nothing passes an earlier message of its key, whatever is refused.

use crate::support::consumer::{AmqpDestination, Consumer, Destination};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::progress::wait_settled;
use crate::support::relay::RelayProcess;
use crate::support::services::Services;
use crate::support::stage::{Stage, unique};
use crate::support::writer::{Batch, committed};

/// What the queue takes before it nacks.
const ROOM: usize = 50;

/// GIVEN a full queue that nacks what does not fit WHEN messages of few keys are sent in strict
/// order, and a consumer then empties the queue THEN they arrive in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_strict_order_survives_nacks() {
    let name = unique();
    let queue = AmqpDestination { url: Services::amqp(), exchange: name.clone(), queue: name };
    queue.declare_exchange().await.expect("an exchange can be declared");
    queue.declare_rejecting_queue(ROOM as i64).await.expect("a queue can be declared");
    let mut stage = Stage::new(Database::create().await).await;
    stage.config = stage.config.amqp("amqp", &queue);
    let mut stage = stage
        .set("target.amqp", "order", "\"strict\"")
        .set("target.amqp", "attempts_max", 1_000)
        .set("target.amqp", "retry_backoff_min", "\"20ms\"")
        .set("target.amqp", "retry_backoff_max", "\"200ms\"");
    let session = stage.session().await;
    Batch { keys: 10, ..Batch::orders(1_000) }.write(&session).await;
    let relay = RelayProcess::start(&stage.config).await;
    until("every key to be refused", async || {
        let refused = "SELECT count(DISTINCT key) FROM outbox.retry WHERE class = 'parked'";
        (session.count(refused).await == 10).then_some(())
    })
    .await;
    stage.consumers.push(("amqp", Consumer::start(Destination::Amqp(queue))));
    stage.wait_received(1_000).await;
    wait_settled(&session, 1).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}
