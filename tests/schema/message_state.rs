//! `outbox.message_state`: what a person sees of every message, per target.

use crate::support::database::Database;
use crate::support::services::Services;

#[tokio::test]
async fn every_message_has_a_state_per_target() {
    for server in [Services::postgres(), Services::postgres_18()] {
        // GIVEN ten messages, of which "orders" settled 1 to 8 and "lake" none
        let session = Database::create_on(&server).await.connect().await;
        session
            .run(
                "INSERT INTO outbox.message (topic) SELECT 't' FROM generate_series(1, 10);
                 INSERT INTO outbox.ledger (target, settled) VALUES ('orders', '{[1,9)}'), ('lake', '{}');
                 INSERT INTO outbox.hole (target, ranges, dead_at) VALUES
                     ('orders', '{[2,3),[7,8)}', NULL),
                     ('orders', '{[8,9)}', NULL),
                     ('orders', '{[1,2)}', now()),
                     ('gone', '{[1,100)}', NULL);
                 INSERT INTO outbox.retry (target, id, key, holds, attempts, class) VALUES
                     ('orders', 3, 'k', true, 1, 'refused'),
                     ('orders', 4, 'k', true, 0, 'held'),
                     ('orders', 6, 'k', false, 0, 'requeued');
                 INSERT INTO outbox.dead (target, id, message_id, topic, created_at, attempts, class, reason)
                     SELECT 'orders', id, message_id, topic, created_at, 5, 'refused', 'nacked'
                     FROM outbox.message WHERE id IN (5, 6);",
            )
            .await;

        // WHEN
        let text =
            "SELECT string_agg(state, ' ' ORDER BY id) FROM outbox.message_state WHERE target = $1";
        let orders: String = session.query_one(text, &[&"orders"]).await.unwrap().get(0);
        let lake: String = session.query_one(text, &[&"lake"]).await.unwrap().get(0);

        // THEN 1 stands in a dead range only, 2, 7 and 8 in open holes, 6 died and is tried again
        assert_eq!(
            orders,
            "sent pending retrying held dead retrying pending pending pending pending"
        );
        assert_eq!(lake, ["pending"; 10].join(" "));
        assert_eq!(session.count("SELECT count(*) FROM outbox.message_state").await, 20);
    }
}
