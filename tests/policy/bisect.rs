//! A batch that is refused as a whole: its culprits are found, and only they.

use crate::support::consumer::{Destination, KafkaDestination};
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::relay::RelayProcess;
use crate::support::services::Services;
use crate::support::stage::{Stage, unique};
use crate::support::writer::{Batch, committed};

/// The topic's limit, below that of a producer's batch.
const LIMIT: usize = 20_000;
const GOOD: usize = 5_000;
const LARGE: usize = 3;

/// GIVEN messages above the topic's limit among thousands of good ones WHEN Kafka refuses the batches
/// that hold them THEN they are dead with the limit's name and their size, and every good one arrives
/// in order without blame.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_batch_is_bisected() {
    let brokers = Services::kafka();
    let destination = KafkaDestination::create(&brokers, &unique(), 1).await;
    destination.set_max_message_bytes(LIMIT).await;
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with("kafka", Destination::Kafka(destination)).set(
        "target.kafka.properties",
        "\"batch.size\"",
        format!("\"{}\"", LIMIT - 5_000),
    );
    let session = stage.session().await;
    for _ in 0..LARGE {
        Batch::orders(GOOD / LARGE).write(&session).await;
        let large = Batch {
            payload_bytes: Some(LIMIT + 1),
            keys: 1,
            key_prefix: "large",
            ..Batch::orders(1)
        };
        large.write(&session).await;
    }
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(GOOD / LARGE * LARGE).await;
    until("the large ones to be dead", async || {
        (session.count("SELECT count(*) FROM outbox.dead").await == LARGE as i64).then_some(())
    })
    .await;
    let reason = "SELECT count(*) FROM outbox.dead
                  WHERE octet_length(payload) > 20000 AND reason LIKE '%20001 bytes%'
                    AND reason LIKE '%max.message.bytes = 20000%'";
    assert_eq!(session.count(reason).await, LARGE as i64, "{}", relay.log());
    let attempts = "SELECT coalesce(sum(attempts), 0)::bigint FROM outbox.retry";
    assert_eq!(session.count(attempts).await, 0);
    assert!(relay.terminate().await.success());
    let mut journal = committed(&session).await;
    journal.retain(|row| !row.is_of("large"));
    stage.assert_exact(&journal).await;
}
