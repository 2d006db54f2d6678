//! Kafka, by the client `rdkafka`: reading a record, and settling it.
//!
//! A trap: a `StreamConsumer` that is dropped while a record borrowed from it is alive never comes back,
//! since librdkafka waits for the record. Let records go first, also when a consumer shuts down.

use std::borrow::Cow;
use std::time::Duration;

use ::rdkafka::consumer::{Consumer, ConsumerContext};
use ::rdkafka::error::KafkaError;
use ::rdkafka::message::{Headers, Message as Record};
use ::rdkafka::topic_partition_list::Offset;

use crate::message::{Header, Message, Parts};
use crate::outcome::Settle;

/// The record as the inbox reads it. Kafka does not say whether it has delivered it before.
#[must_use]
pub fn message<R: Record>(record: &R) -> Message<'_> {
    let headers: Vec<Header<'_>> = record
        .headers()
        .map(|headers| {
            headers
                .iter()
                .map(|header| (Cow::Borrowed(header.key), header.value.map(Cow::Borrowed)))
                .collect()
        })
        .unwrap_or_default();
    Message::read(Parts {
        key: record.key(),
        payload: record.payload(),
        headers,
        destination: record.topic(),
        ..Parts::default()
    })
}

/// Stores the record's offset, or seeks back to it.
///
/// A position says "everything before": settle the records of a partition in their order, one at a
/// time. The consumer has `enable.auto.offset.store = false`, and commits what is stored.
///
/// # Errors
/// The partition is another consumer's by now: the record comes to that one, and is a duplicate there.
pub fn settle<C, X, R>(consumer: &C, record: &R, settle: Settle) -> Result<(), KafkaError>
where
    C: Consumer<X>,
    X: ConsumerContext,
    R: Record,
{
    let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
    match settle {
        Settle::Ack | Settle::DeadLetter => consumer.store_offset(topic, partition, offset),
        // Zero: it takes effect on its own time, and nothing blocks here.
        Settle::Retry | Settle::Release => {
            consumer.seek(topic, partition, Offset::Offset(offset), Duration::ZERO)
        }
    }
}
