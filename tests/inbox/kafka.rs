//! Records of a real Kafka.

use outbox_inbox::{Cause, HandlerError, Inbox, Outcome, Settle};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

use crate::process::{PAYMENTS, payments};
use crate::support::database::Database;
use crate::support::id;
use crate::support::patience::{PATIENCE, wait_for};
use crate::support::services::Services;

pub(crate) async fn topic() -> String {
    let topic = format!("inbox-{}", id::new());
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", Services::kafka()).create().unwrap();
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
    topic
}

fn consumer(topic: &str) -> StreamConsumer {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", Services::kafka())
        .set("group.id", topic)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    consumer
}

/// Through the queue of a producer of its own, which is flushed: the record is there then.
pub(crate) fn publish(topic: &str, id: &str, payload: &str, replay: bool) {
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", Services::kafka()).create().unwrap();
    let mut headers = OwnedHeaders::new().insert(Header { key: "id", value: Some(id) });
    if replay {
        headers = headers.insert(Header { key: "x-outbox-replay", value: Some("r") });
    }
    let record = FutureRecord::to(topic).key("k").payload(payload).headers(headers);
    let sent = producer.send_result(record);
    assert!(sent.is_ok());
    producer.flush(PATIENCE).unwrap();
}

/// With any bytes for an id, or none, and a payload or a tombstone.
pub(crate) fn publish_as(topic: &str, id: Option<&[u8]>, payload: Option<&str>) {
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", Services::kafka()).create().unwrap();
    let mut headers = OwnedHeaders::new();
    if let Some(id) = id {
        headers = headers.insert(Header { key: "id", value: Some(id) });
    }
    let mut record = FutureRecord::to(topic).key("k").headers(headers);
    record.payload = payload;
    let sent = producer.send_result(record);
    assert!(sent.is_ok());
    producer.flush(PATIENCE).unwrap();
}

async fn next(consumer: &StreamConsumer) -> BorrowedMessage<'_> {
    wait_for("a record", consumer.recv()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_settled_by_what_became_of_it() {
    let mut session = Database::create().await.connect().await;
    session.run(PAYMENTS).await;
    let inbox = Inbox::builder("billing").build().unwrap();
    let (topic, id) = (topic().await, id::new());
    publish(&topic, &id, "10", false);
    let pay = async |transaction: &tokio_postgres::Transaction<'_>| {
        transaction.execute("INSERT INTO payment VALUES ('p', 10)", &[]).await?;
        Ok(())
    };
    let fail =
        async |_: &tokio_postgres::Transaction<'_>| Err::<(), _>(HandlerError::transient("x"));

    // GIVEN a record whose first attempt fails WHEN that is settled
    let first = consumer(&topic);
    let failed = next(&first).await;
    let message = outbox_inbox::rdkafka::message(&failed);
    assert_eq!((message.id().unwrap().as_str(), message.destination()), (&*id, &*topic));
    let outcome = inbox.process(&mut session, &message, fail).await.unwrap();
    outbox_inbox::rdkafka::settle(&first, &failed, outcome.settle()).unwrap();
    // THEN it comes again
    let record = next(&first).await;
    let message = outbox_inbox::rdkafka::message(&record);
    let outcome = inbox.process(&mut session, &message, pay).await.unwrap();
    assert_eq!(outcome, Outcome::Done { value: (), attempt: 2 });

    // WHEN the consumer ends before it has stored the offset THEN the next one gets a duplicate
    // (its records first: librdkafka waits for them, for ever)
    drop((failed, record));
    drop(first);
    let second = consumer(&topic);
    let record = next(&second).await;
    let message = outbox_inbox::rdkafka::message(&record);
    let outcome = inbox.process(&mut session, &message, pay).await.unwrap();
    assert_eq!(outcome, Outcome::DuplicateIgnored { cause: Cause::Unknown });
    outbox_inbox::rdkafka::settle(&second, &record, outcome.settle()).unwrap();

    // WHEN the relay replays it THEN it is at another place, and a duplicate still
    publish(&topic, &id, "10", true);
    let record = next(&second).await;
    let message = outbox_inbox::rdkafka::message(&record);
    let outcome = inbox.process(&mut session, &message, pay).await.unwrap();
    assert_eq!(outcome, Outcome::DuplicateIgnored { cause: Cause::Replay });
    outbox_inbox::rdkafka::settle(&second, &record, Settle::Ack).unwrap();
    second.commit_consumer_state(CommitMode::Sync).unwrap();
    let committed = second.committed(PATIENCE).unwrap();
    let offset = committed.elements()[0].offset();
    assert_eq!(offset, rdkafka::Offset::Offset(2));
    assert_eq!(payments(&session).await, 1);
}
