//! The records of the log, and the spans.

use outbox_inbox::{HandlerError, LogKeys, Message, Parts, metric};
use serde_json::json;

use super::{PAYLOAD, Stage, TRACE, delivery, message};
use crate::support::id;
use crate::support::log::Log;

fn traceparent() -> String {
    format!("00-{TRACE}-00f067aa0ba902b7-01")
}

#[tokio::test]
async fn a_duplicate_is_ignored_with_all_that_a_person_asks_for() {
    let mut stage = Stage::new(|inbox| inbox).await;
    let (id, log, parent) = (id::new(), Log::open(), traceparent());
    stage.pay(&message(&id)).await;
    // WHEN a message comes again
    stage.pay(&delivery(&id, &[("traceparent", &parent)], true)).await;
    // THEN
    let expected = json!({
        "message": "duplicate ignored",
        "consumer": stage.inbox.consumer(),
        "message_id": id,
        "decision": "duplicate",
        "cause": "redelivered",
        "correlation_id": "order-7",
        "trace_id": TRACE,
    });
    assert_eq!(log.records("duplicate ignored"), [expected]);
    // AND the first one was told from it
    let first = &log.records("message processed")[0];
    assert_eq!((&first["decision"], &first["attempt"]), (&json!("first_seen"), &json!(1)));
    assert!(!log.text().contains(PAYLOAD), "{}", log.text());
}

#[tokio::test]
async fn an_id_that_is_hashed_stands_nowhere() {
    let mut stage = Stage::new(|inbox| inbox.attempts_max(1).log_keys(LogKeys::Hash)).await;
    let (name, other, log) = ("ann@example.com", "ben@example.com", Log::open());
    // WHEN messages are processed, ignored, given up and taken for another
    stage.pay(&message(name)).await;
    stage.pay(&message(name)).await;
    stage.fail(&message(other), HandlerError::transient).await;
    let changed = Parts { message_id: Some(name), payload: Some(b"x"), ..Parts::default() };
    stage.pay(&Message::read(changed)).await;
    // THEN the records of one message have one hash, and no record or span has the id
    let key = |text, n: usize| log.records(text)[n]["key_hash"].as_str().unwrap().to_owned();
    assert_eq!(key("duplicate ignored", 0), key("message processed", 0));
    assert_eq!(key("message parked", 1), key("message processed", 0));
    assert_ne!(key("message parked", 0), key("message processed", 0));
    assert_eq!(log.spans("process").len(), 4);
    assert!(!log.text().contains("example.com"), "{}", log.text());
}

#[tokio::test]
async fn a_failure_is_told_without_what_is_in_the_message() {
    let mut stage = Stage::new(|inbox| inbox.attempts_max(2)).await;
    stage.session.run("ALTER TABLE payment ADD CONSTRAINT payment_once UNIQUE (id)").await;
    stage.session.execute("INSERT INTO payment VALUES ($1, 10)", &[&PAYLOAD]).await.unwrap();
    let (id, log) = (id::new(), Log::open());
    // WHEN an attempt fails, and the next one meets the constraint, whose detail has the payload in it
    stage.fail(&message(&id), HandlerError::transient).await;
    stage.pay(&message(&id)).await;
    // THEN
    let failed = &log.records("attempt failed")[0];
    assert_eq!((&failed["reason"], &failed["attempt"]), (&json!("transient"), &json!(1)));
    assert_eq!((&failed["message_id"], &failed["correlation_id"]), (&json!(id), &json!("order-7")));
    let parked = &log.records("message parked")[0];
    assert_eq!((&parked["reason"], &parked["attempts"]), (&json!("already_exists"), &json!(2)));
    assert!(parked["error"].as_str().unwrap().contains("payment_once"), "{parked}");
    assert!(!log.text().contains(PAYLOAD), "{}", log.text());
}

#[tokio::test]
async fn spans_tell_claim_and_attempt() {
    let mut stage = Stage::new(|inbox| inbox).await;
    let (id, log) = (id::new(), Log::open());
    // WHEN a message fails, is processed, and comes again
    stage.fail(&message(&id), HandlerError::transient).await;
    stage.pay(&message(&id)).await;
    stage.pay(&delivery(&id, &[], true)).await;
    // THEN the span of each has what was found, and so have those of its claim and its handler
    let said = |name, field: &str| -> Vec<_> {
        log.spans(name).iter().map(|span| span[field].clone()).collect()
    };
    for name in ["process", "inbox.claim"] {
        assert_eq!(said(name, "inbox.verdict"), ["fresh", "fresh", "duplicate"], "{name}");
        assert_eq!(said(name, "inbox.attempt"), [json!(1), json!(2), json!(null)], "{name}");
    }
    assert_eq!(said("inbox.handler", "inbox.attempt"), [json!(1), json!(2)]);
    assert_eq!(said("process", "inbox.cause"), ["unknown", "unknown", "redelivered"]);
    let process = &log.spans("process")[0];
    assert_eq!(process["messaging.message.id"], id);
    assert_eq!(process["messaging.message.conversation_id"], "order-7");
    assert_eq!(process["messaging.destination.name"], "payments");
    // AND what the handler itself says is inside of them
    assert_eq!(log.around("paying"), ["process", "inbox.handler"]);
}

#[tokio::test]
async fn a_flood_of_duplicates_is_counted_and_does_not_flood_the_log() {
    let mut stage = Stage::new(|inbox| inbox.duplicate_logs_per_second_max(0)).await;
    let (id, log) = (id::new(), Log::open());
    for _ in 0..21 {
        stage.pay(&message(&id)).await;
    }
    let duplicates = [("verdict", "duplicate"), ("cause", "unknown")];
    assert_eq!(stage.counted(metric::CLAIMS, &duplicates), 20);
    assert_eq!(log.records("duplicate ignored").len(), 0);
}
