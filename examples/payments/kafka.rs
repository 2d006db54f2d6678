//! Records of a Kafka topic: one after the other, since a position says "everything before".

use outbox_inbox::{Message, Settle};
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::arguments::Topic;

/// Consumes until it is told to stop; librdkafka itself waits for a broker that went away.
pub(crate) async fn consume(
    source: &Topic,
    stop: &CancellationToken,
    deliver: impl AsyncFn(&Message<'_>) -> Settle,
) -> Result<(), KafkaError> {
    let consumer = subscribe(source)?;
    while let Some(record) = stop.run_until_cancelled(consumer.recv()).await {
        let record = match record {
            Ok(record) => record,
            // About the connection: it comes back by itself.
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "Kafka");
                continue;
            }
        };
        let settle = deliver(&outbox_inbox::rdkafka::message(&record)).await;
        if let Err(error) = outbox_inbox::rdkafka::settle(&consumer, &record, settle) {
            warn!(error = &error as &dyn std::error::Error, "the partition is another's by now");
        }
    }
    // No record is borrowed any more: the consumer would wait for it, for ever. Its end commits what
    // was stored.
    drop(consumer);
    Ok(())
}

fn subscribe(source: &Topic) -> Result<StreamConsumer, KafkaError> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &source.brokers)
        .set("group.id", &source.group)
        .set("auto.offset.reset", "earliest")
        // What is committed is what was settled, not what was fetched.
        .set("enable.auto.offset.store", "false")
        .set("auto.commit.interval.ms", "1000");
    if let Some(instance) = &source.instance {
        // Who comes back under its name has its partitions again at once. Others wait for the session
        // of the dead one to end.
        config.set("group.instance.id", instance);
    }
    let consumer: StreamConsumer = config.create()?;
    consumer.subscribe(&[&source.topic])?;
    Ok(consumer)
}
