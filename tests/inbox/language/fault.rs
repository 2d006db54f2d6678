//! What must neither end a consumer in another language nor hold up what is behind it, nor be lost.
//! The same for each of them.

use super::Stage;
use super::program::Program;
use crate::support::id;
use crate::support::patience::until;

/// A consumer of the examples, and what it consumes.
pub(super) trait Consumer {
    /// The logical handler.
    const NAME: &str;

    /// Starts one of its processes.
    fn start(&self, stage: &Stage) -> Program;

    /// Sends a message; `None` is no id, and a NULL payload, as the relay sends them.
    async fn send(&self, id: Option<&str>, payload: Option<&str>);
}

const GOOD: &str = r#"{"payment_id": "p", "amount": 1}"#;

/// Messages that no consumer can claim or process, and one behind each of them.
pub(super) async fn what_cannot_be_processed_is_parked<C: Consumer>(consumer: &C) {
    // GIVEN
    let stage = Stage::open().await;
    let far = id::of_day(365 * 30);
    let long = "x".repeat(201);
    let deep = "[".repeat(20_000);
    let tombstone = id::new();
    let messages = [
        (Some(far.as_str()), Some(GOOD), "unusable", "future"),
        (Some(long.as_str()), Some(GOOD), "unusable", "too_long"),
        (Some("a\0b"), Some(GOOD), "unusable", "nul"),
        (None, Some(GOOD), "missing_id", ""),
        (Some(tombstone.as_str()), None, "permanent", "Error"),
        (Some("deep"), Some(deep.as_str()), "permanent", "Error"),
        (Some("null"), Some("null"), "permanent", "TypeError"),
        // The table refuses it.
        (Some("value"), Some(r#"{"payment_id": "p", "amount": "much"}"#), "permanent", ""),
    ];
    for (id, payload, _, _) in messages {
        consumer.send(id, payload).await;
        consumer.send(Some(&id::new()), Some(GOOD)).await;
    }
    // WHEN
    let mut program = consumer.start(&stage);
    program.wait_said("payment made", messages.len()).await;
    program.stop().await;
    // THEN each is parked with its reason, and what is behind it was processed
    assert_eq!(stage.payments().await, i64::try_from(messages.len()).unwrap());
    let parked = "SELECT class, error FROM outbox.inbox_failure
        WHERE consumer = $1 AND parked_at IS NOT NULL AND headers IS NOT NULL ORDER BY first_failed_at";
    let rows = stage.session.query(parked, &[&C::NAME]).await.unwrap();
    assert_eq!(rows.len(), messages.len());
    for (row, (id, _, class, error)) in rows.iter().zip(messages) {
        let found: (&str, &str) = (row.get(0), row.get(1));
        assert!(found.0 == class && found.1.contains(error), "{id:?}: {found:?}");
    }
}

/// Another process is at the message for longer than a claim waits.
pub(super) async fn what_another_process_is_at_is_given_back<C: Consumer>(
    consumer: &C,
    said: &str,
) {
    // GIVEN
    let stage = Stage::open().await;
    let id = id::new();
    stage.session.run("BEGIN").await;
    let claim = "SELECT outbox.inbox_claim($1, $2)";
    stage.session.execute(claim, &[&C::NAME, &id]).await.unwrap();
    consumer.send(Some(&id), Some(GOOD)).await;
    // WHEN the claim has waited as long as it may
    let mut program = consumer.start(&stage);
    program.wait_said(said, 1).await;
    // THEN the process is there, and processes it once the other one has gone
    stage.session.run("ROLLBACK").await;
    program.wait_said("payment made", 1).await;
    program.stop().await;
    // AND no attempt was counted
    assert_eq!(stage.session.count("SELECT count(*) FROM outbox.inbox_failure").await, 0);
    assert_eq!(stage.payments().await, 1);
}

/// What the effect needs is away for a while.
pub(super) async fn what_fails_for_a_while_is_not_given_up<C: Consumer>(consumer: &C) {
    // GIVEN
    let stage = Stage::open().await;
    stage.session.run("ALTER TABLE payment RENAME TO elsewhere").await;
    consumer.send(Some(&id::new()), Some(GOOD)).await;
    let mut program = consumer.start(&stage);
    // WHEN more attempts have failed than a hasty consumer has
    program.wait_said("attempt failed", 4).await;
    stage.session.run("ALTER TABLE elsewhere RENAME TO payment").await;
    // THEN the message is still tried
    program.wait_said("payment made", 1).await;
    program.stop().await;
    assert_eq!(stage.payments().await, 1);
    assert_eq!(stage.session.count("SELECT count(*) FROM outbox.inbox_failure").await, 0);
}

/// A person lets a parked message through again.
pub(super) async fn what_was_parked_can_be_replayed<C: Consumer>(consumer: &C) {
    // GIVEN a message that the table refuses, so that it is parked
    let stage = Stage::open().await;
    stage.session.run("ALTER TABLE payment ADD CONSTRAINT enough CHECK (amount > 1)").await;
    let id = id::new();
    consumer.send(Some(&id), Some(GOOD)).await;
    let mut program = consumer.start(&stage);
    program.wait_said("message parked", 1).await;
    // WHEN the cause is mended, and a person has it replayed
    stage.session.run("ALTER TABLE payment DROP CONSTRAINT enough").await;
    let replay = "SELECT outbox.inbox_replay($1, $2, 'the constraint was wrong')";
    let replayed = stage.session.query_one(replay, &[&C::NAME, &id]).await.unwrap();
    assert!(replayed.get::<_, bool>(0), "its headers were kept");
    // THEN it is processed from the table, and nothing of it is left there
    program.wait_said("payment made", 1).await;
    until("the failure to be gone", async || {
        let failures = "SELECT count(*) FROM outbox.inbox_failure";
        (stage.session.count(failures).await == 0).then_some(())
    })
    .await;
    // AND when it comes once more, it is a duplicate
    consumer.send(Some(&id), Some(GOOD)).await;
    program.wait_said("duplicate ignored", 1).await;
    program.stop().await;
    assert_eq!(stage.payments().await, 1);
}
