//! `outbox-relay inbox keys`: a key whose attempt was lost is found, and forgotten by somebody who looked.

use super::Consumer;

/// Begins an attempt whose lease lasts that long.
async fn begin(consumer: &Consumer, key: &str, lease: &str) -> String {
    let text = format!(
        "SELECT verdict FROM outbox.idempotency_begin('POST /charges 7', '{key}', '\\x01', lease => '{lease}')"
    );
    consumer.session.query_one(&text, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_key_is_found_and_forgotten() {
    // GIVEN a key that is worked on, one that is finished, and one whose attempt was lost
    let consumer = Consumer::new().await;
    assert_eq!(begin(&consumer, "working", "1 hour").await, "started");
    assert_eq!(begin(&consumer, "lost", "0 s").await, "started");
    let finish = "SELECT outbox.idempotency_finish(scope, key, token, 201, '[]', 'top-secret')
                  FROM (SELECT 'POST /charges 7' AS scope, 'finished' AS key) AS k,
                  outbox.idempotency_begin(scope, key, '\\x01')";
    consumer.session.run(finish).await;
    assert_eq!(begin(&consumer, "lost", "60 s").await, "unknown");

    // AND two whose handler failed, before and after a phase that is recorded
    for (key, point) in [("failed", "NULL"), ("charged", "'charge'")] {
        let text = format!(
            "WITH begun AS (SELECT token FROM outbox.idempotency_begin('POST /charges 7', '{key}', '\\x01')),
             kept AS MATERIALIZED (SELECT token, CASE WHEN {point} IS NOT NULL THEN
                 outbox.idempotency_checkpoint('POST /charges 7', '{key}', token, {point}) END FROM begun)
             SELECT outbox.idempotency_suspend('POST /charges 7', '{key}', token) FROM kept"
        );
        consumer.session.run(&text).await;
    }

    // WHEN somebody looks THEN the lost one is there, and the one that stopped after its charge, and
    // nothing of what was answered
    let lost = consumer.json(&["keys", "list"]).await;
    let found: Vec<_> = lost.as_array().unwrap().iter().collect();
    let found: Vec<_> =
        found.iter().map(|key| [&key["key"], &key["state"], &key["recovery_point"]]).collect();
    assert_eq!(found, [["charged", "suspended", "charge"], ["lost", "lost", "started"]]);
    let (_, text) = consumer.say(&["keys", "list", "--all"]).await;
    for state in ["working", "finished", "lost"] {
        assert!(text.matches(state).count() >= 2, "{text}");
    }
    assert!(!text.contains("top-secret"), "{text}");
    let elsewhere = consumer.json(&["keys", "list", "--all", "--scope", "GET /"]).await;
    assert_eq!(elsewhere.as_array().unwrap().len(), 0);

    // AND it can be forgotten, with a reason, unless somebody is at work or has answered
    let forget = async |key: &str| {
        let arguments = ["keys", "forget", key, "--scope", "POST /charges 7"];
        let why = ["--reason", "the provider has no such charge", "--by", "ann"];
        consumer.say(&[&arguments[..], &why[..]].concat()).await
    };
    assert_eq!(forget("lost").await, (0, "lost is forgotten\n".into()));
    assert_eq!(begin(&consumer, "lost", "60 s").await, "started");
    let (code, text) = forget("working").await;
    assert!(
        code == 1 && text.contains("one that is worked on or has been answered is not"),
        "{text}"
    );
    assert_eq!(forget("finished").await.0, 1);
    assert_eq!(forget("nothing").await.0, 1);
    let audit = "SELECT count(*) FROM outbox.inbox_audit WHERE action = 'forget' AND actor = 'ann'
                 AND consumer = 'POST /charges 7' AND message_id = 'lost'";
    assert_eq!(consumer.session.count(audit).await, 1);
}
