//! The metrics.

use outbox_inbox::{Cause, HandlerError, Message, Parts, metric};

use super::{PAYLOAD, Stage, delivery, message, pay};
use crate::support::id;

#[tokio::test]
async fn claims_are_counted_by_verdict_and_cause() {
    let mut stage = Stage::new(|inbox| inbox).await;
    let (id, other) = (id::new(), id::new());
    // WHEN a message comes for the first time, and again for every reason there is
    stage.pay(&message(&id)).await;
    stage.pay(&message(&id)).await;
    stage.pay(&delivery(&id, &[], true)).await;
    stage.pay(&delivery(&id, &[("x-outbox-resent", "crash")], true)).await;
    stage.pay(&delivery(&id, &[("x-outbox-replay", "1")], true)).await;
    // AND one whose first delivery had no effect, one of another payload, one of last year
    stage.pay(&delivery(&other, &[], true)).await;
    let changed = Parts { message_id: Some(&id), payload: Some(b"x"), ..Parts::default() };
    stage.pay(&Message::read(changed)).await;
    stage.pay(&message(&id::of_day(-365))).await;
    // THEN each is told from the others
    let claims =
        |verdict, cause| stage.counted(metric::CLAIMS, &[("verdict", verdict), ("cause", cause)]);
    let counted = [
        claims("fresh", "first"),
        claims("fresh", "redelivered"),
        claims("duplicate", "unknown"),
        claims("duplicate", "redelivered"),
        claims("duplicate", "relay_retry"),
        claims("duplicate", "replay"),
        claims("mismatch", "unknown"),
        claims("stale", "unknown"),
    ];
    assert_eq!(counted, [1; 8]);
    for class in ["mismatch", "stale"] {
        assert_eq!(stage.counted(metric::PARKED, &[("class", class)]), 1, "{class}");
    }
    assert_eq!(stage.counted(metric::CLAIM_DURATION, &[]), 8);
    assert_eq!(stage.counted(metric::HANDLER_DURATION, &[("outcome", "ok")]), 2);
    assert_eq!(stage.counted(metric::ATTEMPTS, &[]), 2);
}

#[tokio::test]
async fn failures_are_counted_by_what_they_call_for() {
    let mut stage = Stage::new(|inbox| inbox.attempts_max(2)).await;
    let (poison, wrong) = (id::new(), id::new());
    // WHEN a message fails until it is given up, another at once, and one has no id
    stage.fail(&message(&poison), HandlerError::transient).await;
    stage.fail(&message(&poison), HandlerError::transient).await;
    stage.fail(&message(&wrong), HandlerError::permanent).await;
    stage.pay(&Message::read(Parts::default())).await;
    // AND one comes while the inbox is not to be used
    stage.session.run("ALTER FUNCTION outbox.inbox_begin RENAME TO gone").await;
    let unusable = stage.inbox.process(&mut stage.session, &message(&id::new()), pay).await;
    assert!(unusable.is_err());
    // THEN
    let counted = [
        stage.counted(metric::RETRIES, &[("reason", "transient")]),
        stage.counted(metric::RETRIES, &[("reason", "inbox")]),
        stage.counted(metric::PARKED, &[("class", "attempts")]),
        stage.counted(metric::PARKED, &[("class", "permanent")]),
        stage.counted(metric::PARKED, &[("class", "missing_id")]),
        stage.counted(metric::HANDLER_DURATION, &[("outcome", "permanent")]),
    ];
    assert_eq!(counted, [1; 6]);
    assert_eq!(stage.counted(metric::HANDLER_DURATION, &[("outcome", "transient")]), 2);
}

#[tokio::test]
async fn an_effect_that_was_there_already_is_counted_by_its_constraint() {
    let mut stage = Stage::new(|inbox| inbox).await;
    // GIVEN the second line of defence, and an effect that came another way
    stage.session.run("ALTER TABLE payment ADD CONSTRAINT payment_once UNIQUE (id)").await;
    stage.session.execute("INSERT INTO payment VALUES ($1, 10)", &[&PAYLOAD]).await.unwrap();
    // WHEN its message comes
    stage.pay(&message(&id::new())).await;
    // THEN that is no ordinary failure
    let constraint = [("constraint", "payment_once")];
    assert_eq!(stage.counted(metric::DUPLICATE_EFFECTS, &constraint), 1);
    assert_eq!(stage.counted(metric::PARKED, &[("class", "already_exists")]), 1);
    assert_eq!(stage.counted(metric::HANDLER_DURATION, &[("outcome", "already_exists")]), 1);
}

#[tokio::test]
async fn what_needs_no_inbox_is_counted_and_not_stored() {
    let stage = Stage::new(|inbox| inbox).await;
    let id = id::new();
    let causes = [false, true].map(|again| stage.inbox.passthrough(&delivery(&id, &[], again)));
    assert_eq!(causes, [Cause::Unknown, Cause::Redelivered]);
    for cause in causes {
        let labels = [("verdict", "passthrough"), ("cause", cause.as_str())];
        assert_eq!(stage.counted(metric::CLAIMS, &labels), 1);
    }
    assert_eq!(stage.session.count("SELECT count(*) FROM outbox.inbox").await, 0);
}
