//! The wire format, cell by cell, as RabbitMQ hands it out.

use std::collections::BTreeMap;

use lapin::message::Delivery;
use outbox_relay::message::{Parts, Resent};
use outbox_relay::target::{Reaction, Submission};
use uuid::Uuid;

use super::amqp::{Rabbit, headers};
use super::driver::Driver;
use super::row::{parts, submission};

/// Publishes one submission and takes it out of the queue.
async fn round_trip(submission: Submission) -> Delivery {
    let mut all = round_trips(vec![submission]).await;
    all.pop().expect("one message")
}

async fn round_trips(submissions: Vec<Submission>) -> Vec<Delivery> {
    let rabbit = Rabbit::new("wire", "classic").await;
    let mut driver = Driver::connect(rabbit.target()).await;
    let rows: Vec<i64> = submissions.iter().map(|s| s.message.id()).collect();
    driver.publish_all(submissions, 1_000).await;
    assert_eq!(driver.outcomes.confirmed, rows, "{:?}", driver.outcomes.refused);
    rabbit.drain().await
}

fn text(delivery: &Delivery, name: &str) -> Option<String> {
    let value = headers(delivery).get(name)?.clone().expect("not void");
    Some(String::from_utf8(value).expect("a text"))
}

/// GIVEN a row with all of its fields WHEN it is published THEN every property and header of the
/// table is there, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn properties_and_headers() {
    let message_id = Uuid::now_v7();
    let parts = Parts { message_id, kind: Some("v1"), ..parts(42, "good.a") };
    let delivery = round_trip(submission(parts)).await;

    let properties = &delivery.properties;
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), message_id.to_string());
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "v1");
    assert_eq!(*properties.timestamp(), Some(1_700_000_000));
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(*properties.content_type(), None);
    assert_eq!(delivery.routing_key.as_str(), "good.a");
    assert_eq!(delivery.data, b"payload");
    let expected = [
        ("x-outbox-created-at", "2023-11-14T22:13:20.123456Z"),
        ("x-outbox-id", "42"),
        ("x-outbox-key", "key"),
        ("x-outbox-topic", "good.a"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), Some(value.into())));
    assert_eq!(headers(&delivery), BTreeMap::from(expected));
}

/// GIVEN no type THEN there is no property `type`; GIVEN an empty one THEN there is.
#[tokio::test(flavor = "multi_thread")]
async fn types() {
    let rows = [None, Some("")].into_iter().zip(1..);
    let rows = rows.map(|(kind, id)| submission(Parts { kind, ..parts(id, "good.a") })).collect();
    let deliveries = round_trips(rows).await;
    assert_eq!(*deliveries[0].properties.kind(), None);
    assert_eq!(deliveries[1].properties.kind().as_ref().unwrap().as_str(), "");
}

/// GIVEN a NULL, an empty and a unicode key THEN the header is absent, empty, and UTF-8.
#[tokio::test(flavor = "multi_thread")]
async fn keys() {
    let rows = [None, Some(""), Some("käse/🧀")].into_iter().zip(1..);
    let rows = rows.map(|(key, id)| submission(Parts { key, ..parts(id, "good.a") })).collect();
    let deliveries = round_trips(rows).await;
    assert_eq!(text(&deliveries[0], "x-outbox-key"), None);
    assert_eq!(text(&deliveries[1], "x-outbox-key").as_deref(), Some(""));
    assert_eq!(text(&deliveries[2], "x-outbox-key").as_deref(), Some("käse/🧀"));
}

/// GIVEN every byte value, nothing, NULL, no UTF-8 and 1 MB (many frames) THEN the body is exactly
/// that, and only NULL is marked as such.
#[tokio::test(flavor = "multi_thread")]
async fn payloads() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..1_048_576_u32).map(|n| ((n * 31) >> 3) as u8).collect();
    let payloads = [Some(&*every_byte), Some(b""), None, Some(b"\xff\xfe\x00\x80"), Some(&*large)];
    let rows = payloads.into_iter().zip(1..);
    let row = |(payload, id)| submission(Parts { payload, ..parts(id, "good.a") });
    let deliveries = round_trips(rows.map(row).collect()).await;
    for (delivery, payload) in deliveries.iter().zip(payloads) {
        assert!(delivery.data == payload.unwrap_or_default());
        let null = text(delivery, "x-outbox-null");
        assert_eq!(null.as_deref(), payload.is_none().then_some("true"));
    }
}

/// GIVEN headers of every JSON type THEN strings come as they are, null as void, and everything
/// else as its JSON text: numbers digit by digit.
#[tokio::test(flavor = "multi_thread")]
async fn application_headers() {
    let json = r#"{"s": "grüße \"q\"\n", "é": "name", "e": "", "n": 12345678901234567890.10, "big": 1e400, "t": true, "f": false, "z": null, "o": {"a": [1, null, "x"]}, "l": [1.0], "traceparent": "00-ab-cd-01", "content-type": "application/json"}"#;
    let delivery =
        round_trip(submission(Parts { headers: Some(json), ..parts(1, "good.a") })).await;
    let all = headers(&delivery);
    let expected: [(&str, Option<&str>); 11] = [
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
    ];
    for (name, value) in expected {
        assert_eq!(all.get(name), Some(&value.map(|v| v.as_bytes().to_vec())), "{name}");
    }
    let content_type = delivery.properties.content_type().as_ref();
    assert_eq!(content_type.unwrap().as_str(), "application/json");
    assert!(!all.contains_key("content-type"));
}

/// GIVEN a message that is sent again, or replayed THEN it says so, and nothing else of it differs.
#[tokio::test(flavor = "multi_thread")]
async fn sent_again() {
    let original = submission(parts(1, "good.a"));
    let replay = Uuid::now_v7();
    let mut again = vec![original.clone()];
    for resent in [Resent::Takeover, Resent::Reconnect, Resent::Retry] {
        again.push(Submission { resent: Some(resent), ..original.clone() });
    }
    again.push(Submission { replay: Some(replay), ..original });
    let deliveries = round_trips(again).await;
    let resent: Vec<_> = deliveries.iter().map(|d| text(d, "x-outbox-resent")).collect();
    let resent: Vec<_> = resent.iter().map(Option::as_deref).collect();
    assert_eq!(resent, [None, Some("takeover"), Some("reconnect"), Some("retry"), None]);
    assert_eq!(text(&deliveries[4], "x-outbox-replay"), Some(replay.to_string()));
    for delivery in &deliveries {
        assert_eq!(delivery.properties.message_id(), deliveries[0].properties.message_id());
        assert_eq!(delivery.data, deliveries[0].data);
        assert_eq!(text(delivery, "x-outbox-key"), text(&deliveries[0], "x-outbox-key"));
    }
}

/// GIVEN a route with headers THEN they are added, and replace those of the row.
#[tokio::test(flavor = "multi_thread")]
async fn route_headers() {
    let rabbit = Rabbit::new("wire", "classic").await;
    let extra = [("source", "shop"), ("tenant", "{{ headers.a }}"), ("b", "{{ key }}")];
    let extra = extra.map(|(name, template)| (name.to_owned(), template.parse().unwrap()));
    let target = rabbit.target_with(&rabbit.exchange, extra.into());
    let mut driver = Driver::connect(target).await;
    let json = Some(r#"{"a": "x", "b": "row"}"#);
    let without = submission(parts(2, "good.a"));
    let with = submission(Parts { headers: json, ..parts(1, "good.a") });
    driver.publish_all([with, without], 10).await;

    let deliveries = rabbit.drain().await;
    assert_eq!(deliveries.len(), 1);
    for (name, value) in [("source", "shop"), ("tenant", "x"), ("a", "x"), ("b", "key")] {
        assert_eq!(text(&deliveries[0], name).as_deref(), Some(value));
    }
    let [(2, refusal)] = &driver.outcomes.refused[..] else {
        panic!("{:?}", driver.outcomes.refused)
    };
    assert_eq!(refusal.reaction, Reaction::Route);
    assert!(refusal.reason.starts_with("template: `headers.a` is absent"), "{}", refusal.reason);
}

/// GIVEN what AMQP cannot carry among good rows THEN it is buried with its reason, nothing panics,
/// and the good ones pass.
#[tokio::test(flavor = "multi_thread")]
async fn what_amqp_cannot_carry() {
    let rabbit = Rabbit::new("wire", "classic").await;
    let mut driver = Driver::connect(rabbit.target()).await;
    let long = format!("good.{}", "x".repeat(251));
    let huge = format!(r#"{{"a": "{}"}}"#, "x".repeat(140_000));
    let (kind, payload, oversize_bytes) = (Some(&*long), None, Some(9 << 20));
    let bad = [
        parts(2, &long),
        Parts { kind, ..parts(3, "good.a") },
        Parts { headers: Some(&huge), ..parts(4, "good.a") },
        Parts { payload, oversize_bytes, ..parts(5, "good.a") },
    ];
    let rows = [parts(1, "good.a")].into_iter().chain(bad).chain([parts(6, "good.a")]);
    driver.publish_all(rows.map(submission), 10).await;
    assert_eq!(driver.outcomes.confirmed, [1, 6]);
    let refused = driver.outcomes.refused.iter();
    assert!(refused.clone().all(|(_, refusal)| refusal.reaction == Reaction::Bury));
    assert_eq!(refused.map(|(row, _)| *row).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_eq!(rabbit.rows().await, [1, 6]);
}

/// GIVEN headers that fill a frame almost THEN RabbitMQ takes them: the limit is not too low, and
/// what passes it does not end the connection.
#[tokio::test(flavor = "multi_thread")]
async fn headers_up_to_a_frame() {
    let rabbit = Rabbit::new("wire", "classic").await;
    let mut driver = Driver::connect(rabbit.target()).await;
    let sizes = (130_600..131_000).step_by(8).zip(1..);
    let row = |(size, id)| {
        let json = format!(r#"{{"a": "{}"}}"#, "x".repeat(size));
        submission(Parts { headers: Some(&json), ..parts(id, "good.a") })
    };
    driver.publish_all(sizes.map(row), 10).await;
    assert!(!driver.outcomes.confirmed.is_empty());
    assert!(!driver.outcomes.refused.is_empty());
    let confirmed = driver.outcomes.confirmed.iter().max().unwrap();
    let refused = driver.outcomes.refused.iter().map(|(row, _)| row).min().unwrap();
    assert!(confirmed < refused);
}
