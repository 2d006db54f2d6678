//! Dead messages are removed only where the configuration says so, and recorded.

use std::time::Duration;

use outbox_relay::keeper::dead;

use super::outbox::Outbox;

#[tokio::test]
async fn old_dead_messages_are_removed_and_recorded() {
    // GIVEN dead messages that died 1 to 5 hours ago; 4 is requeued, 5 holds its key
    let mut outbox = Outbox::create().await;
    outbox.insert(6).await;
    outbox.settle("lake", "{[1,7)}").await;
    for id in 1..=5 {
        outbox.bury("lake", id, "too large").await;
    }
    outbox.bury("mill", 6, "too large").await;
    outbox.run("UPDATE outbox.dead SET died_at = now() - interval '1 h' * id").await;
    outbox.retry("lake", 4).await;
    outbox.retry("lake", 5).await;
    outbox.run("UPDATE outbox.retry SET class = 'poison', next_at = 'infinity' WHERE id = 5").await;
    // WHEN
    let age = Duration::from_secs(9_000);
    let removed = dead::piece(&mut outbox.session, &outbox.schema, age, 100, &[]).await.unwrap();
    // THEN
    assert_eq!(removed, 2);
    assert_eq!(outbox.ids("outbox.dead").await, [1, 2, 4, 5]);
    let audit = "outbox.message WHERE EXISTS (
                     SELECT FROM outbox.decision
                     WHERE command = 'retention' AND rows = 1 AND filter = '{\"older_than\": \"2h 30m\"}'
                       AND ids @> message.id AND message_ids = ARRAY[message_id])";
    assert_eq!(outbox.ids(audit).await, [3, 6]);
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.decision").await, 2);
    // AND in pieces
    let all = Duration::ZERO;
    let piece = dead::piece(&mut outbox.session, &outbox.schema, all, 1, &[]).await.unwrap();
    assert_eq!((piece, outbox.ids("outbox.dead").await), (1, vec![1, 4, 5]));
}
