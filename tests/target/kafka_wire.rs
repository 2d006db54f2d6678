//! The wire format, cell by cell, as Kafka hands it out.

use std::collections::BTreeMap;

use outbox_relay::message::{Parts, Resent};
use outbox_relay::target::{Reaction, Submission};
use rdkafka::message::{Message as _, OwnedMessage, Timestamp};
use uuid::Uuid;

use super::driver::Driver;
use super::kafka::{self, Kafka, headers};
use super::row::{parts, submission};

/// Publishes and reads everything back, in order.
async fn round_trips(submissions: Vec<Submission>) -> Vec<OwnedMessage> {
    let kafka = Kafka::new("wire", 1, &[("max.message.bytes", "4000000")]).await;
    let mut driver = Driver::connect(kafka.target()).await;
    let rows: Vec<i64> = submissions.iter().map(|s| s.message.id()).collect();
    driver.publish_all(submissions, 1_000).await;
    assert_eq!(driver.outcomes.confirmed, rows, "{:?}", driver.outcomes.refused);
    kafka.read().await
}

fn text(message: &OwnedMessage, name: &str) -> Option<String> {
    let value = headers(message).get(name)?.clone().expect("not null");
    Some(String::from_utf8(value).expect("a text"))
}

/// GIVEN a row with all of its fields WHEN it is published THEN every field and header of the table
/// is there, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn fields_and_headers() {
    let message_id = Uuid::now_v7();
    let parts = Parts { message_id, kind: Some("v1"), ..parts(42, "order.created") };
    let messages = round_trips(vec![submission(parts)]).await;

    let message = &messages[0];
    assert_eq!(message.key(), Some(&b"key"[..]));
    assert_eq!(message.payload(), Some(&b"payload"[..]));
    // The time of sending: the row's own is a header.
    let Timestamp::CreateTime(sent_ms) = message.timestamp() else { panic!("no time") };
    assert!(sent_ms > 1_750_000_000_000, "{sent_ms}");
    let expected = [
        ("id", &*message_id.to_string()),
        ("type", "v1"),
        ("x-outbox-created-at", "2023-11-14T22:13:20.123456Z"),
        ("x-outbox-id", "42"),
        ("x-outbox-topic", "order.created"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), Some(value.into())));
    assert_eq!(headers(message), BTreeMap::from(expected));
}

/// GIVEN no type THEN there is no header `type`; GIVEN an empty one THEN there is.
#[tokio::test(flavor = "multi_thread")]
async fn types() {
    let rows = [None, Some("")].into_iter().zip(1..);
    let rows = rows.map(|(kind, id)| submission(Parts { kind, ..parts(id, "a") })).collect();
    let messages = round_trips(rows).await;
    assert_eq!(text(&messages[0], "type"), None);
    assert_eq!(text(&messages[1], "type").as_deref(), Some(""));
}

/// GIVEN a NULL, an empty and a unicode key THEN the record's key is null, empty, and UTF-8.
#[tokio::test(flavor = "multi_thread")]
async fn keys() {
    let keys = [None, Some(""), Some("käse/🧀")];
    let rows = keys.into_iter().zip(1..);
    let rows = rows.map(|(key, id)| submission(Parts { key, ..parts(id, "a") })).collect();
    let messages = round_trips(rows).await;
    for (message, key) in messages.iter().zip(keys) {
        assert_eq!(message.key(), key.map(str::as_bytes));
        assert!(!headers(message).contains_key("x-outbox-key"));
    }
}

/// GIVEN every byte value, nothing, NULL, no UTF-8 and 1 MB THEN the value is exactly that, and NULL
/// is a tombstone.
#[tokio::test(flavor = "multi_thread")]
async fn payloads() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..1_048_576_u32).map(|n| ((n * 31) >> 3) as u8).collect();
    let payloads = [Some(&*every_byte), Some(b""), None, Some(b"\xff\xfe\x00\x80"), Some(&*large)];
    let rows = payloads.into_iter().zip(1..);
    let row = |(payload, id)| submission(Parts { payload, ..parts(id, "a") });
    let messages = round_trips(rows.map(row).collect()).await;
    for (message, payload) in messages.iter().zip(payloads) {
        assert!(message.payload() == payload);
        assert!(!headers(message).contains_key("x-outbox-null"));
    }
}

/// GIVEN headers of every JSON type THEN strings come as they are, null as null, and everything else
/// as its JSON text: numbers digit by digit.
#[tokio::test(flavor = "multi_thread")]
async fn application_headers() {
    let json = r#"{"s": "grüße \"q\"\n", "é": "name", "e": "", "n": 12345678901234567890.10, "big": 1e400, "t": true, "f": false, "z": null, "o": {"a": [1, null, "x"]}, "l": [1.0], "traceparent": "00-ab-cd-01", "content-type": "application/json"}"#;
    let row = submission(Parts { headers: Some(json), ..parts(1, "a") });
    let messages = round_trips(vec![row]).await;
    let all = headers(&messages[0]);
    let expected: [(&str, Option<&str>); 12] = [
        ("s", Some("grüße \"q\"\n")),
        ("é", Some("name")),
        ("e", Some("")),
        ("n", Some("12345678901234567890.10")),
        ("big", Some("1e400")),
        ("t", Some("true")),
        ("f", Some("false")),
        ("z", None),
        ("o", Some(r#"{"a": [1, null, "x"]}"#)),
        ("l", Some("[1.0]")),
        ("traceparent", Some("00-ab-cd-01")),
        ("content-type", Some("application/json")),
    ];
    for (name, value) in expected {
        assert_eq!(all.get(name), Some(&value.map(|v| v.as_bytes().to_vec())), "{name}");
    }
}

/// GIVEN a message that is sent again, or replayed THEN it says so, and nothing else of it differs.
#[tokio::test(flavor = "multi_thread")]
async fn sent_again() {
    let original = submission(parts(1, "a"));
    let replay = Uuid::now_v7();
    let mut again = vec![original.clone()];
    for resent in [Resent::Takeover, Resent::Reconnect, Resent::Retry] {
        again.push(Submission { resent: Some(resent), ..original.clone() });
    }
    again.push(Submission { replay: Some(replay), ..original });
    let messages = round_trips(again).await;
    let resent: Vec<_> = messages.iter().map(|m| text(m, "x-outbox-resent")).collect();
    let resent: Vec<_> = resent.iter().map(Option::as_deref).collect();
    assert_eq!(resent, [None, Some("takeover"), Some("reconnect"), Some("retry"), None]);
    assert_eq!(text(&messages[4], "x-outbox-replay"), Some(replay.to_string()));
    for message in &messages {
        assert_eq!(text(message, "id"), text(&messages[0], "id"));
        assert_eq!((message.key(), message.payload()), (messages[0].key(), messages[0].payload()));
    }
}

/// GIVEN a route with headers THEN they are added, and replace those of the row.
#[tokio::test(flavor = "multi_thread")]
async fn route_headers() {
    let topic = Kafka::new("wire", 1, &[]).await;
    let extra = [("source", "shop"), ("tenant", "{{ headers.a }}"), ("b", "{{ key }}")];
    let extra = extra.map(|(name, template)| (name.to_owned(), template.parse().unwrap()));
    let route = kafka::route(&topic.topic, extra.into());
    let mut driver = Driver::connect(kafka::target(kafka::config(), vec![route])).await;
    let json = Some(r#"{"a": "x", "b": "row"}"#);
    let with = submission(Parts { headers: json, ..parts(1, "a") });
    driver.publish_all([with, submission(parts(2, "a"))], 10).await;

    let messages = topic.read().await;
    assert_eq!(messages.len(), 1);
    for (name, value) in [("source", "shop"), ("tenant", "x"), ("a", "x"), ("b", "key")] {
        assert_eq!(text(&messages[0], name).as_deref(), Some(value));
    }
    let [(2, refusal)] = &driver.outcomes.refused[..] else {
        panic!("{:?}", driver.outcomes.refused)
    };
    assert_eq!(refusal.reaction, Reaction::Route);
    assert!(refusal.reason.starts_with("template: `headers.a` is absent"), "{}", refusal.reason);
}

/// GIVEN keys WHEN they are published to 12 partitions THEN each goes where a Java client would put
/// it: murmur2 as Kafka's own library computes it.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_those_of_java_clients() {
    let topic = Kafka::new("wire", 12, &[]).await;
    let mut driver = Driver::connect(topic.target()).await;
    let keys: Vec<String> = (0..200).map(|n| format!("key-{n}")).collect();
    let rows = keys.iter().zip(1..).map(|(key, id)| Parts { key: Some(key), ..parts(id, "a") });
    driver.publish_all(rows.map(submission), 1_000).await;
    for message in topic.read().await {
        let key = message.key().unwrap();
        assert_eq!(message.partition(), (murmur2(key) & 0x7fff_ffff) as i32 % 12, "{key:?}");
    }
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(data.len()).unwrap();
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    for (n, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * n);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// GIVEN what Kafka cannot carry among good rows THEN it is buried with its reason, and the good ones
/// pass.
#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_cannot_carry() {
    let topic = Kafka::new("wire", 1, &[]).await;
    let target = kafka::target(kafka::config(), vec![kafka::route("{{ topic }}", vec![])]);
    let mut driver = Driver::connect(target).await;
    let (payload, oversize_bytes) = (None, Some(9 << 20));
    let rows = [
        parts(1, &topic.topic),
        parts(2, "not a topic"),
        parts(3, ""),
        Parts { payload, oversize_bytes, ..parts(4, &topic.topic) },
        parts(5, &topic.topic),
    ];
    driver.publish_all(rows.map(submission), 10).await;
    assert_eq!(driver.outcomes.confirmed, [1, 5]);
    let refused = driver.outcomes.refused.iter();
    assert!(refused.clone().all(|(_, refusal)| refusal.reaction == Reaction::Bury));
    assert_eq!(refused.map(|(row, _)| *row).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(topic.rows().await, [1, 5]);
}
