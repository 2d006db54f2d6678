//! Whether a row's key is held is read in the same snapshot as the row.

use super::consumer::{Consumer, TARGET, limits};
use crate::support::database::Database;

#[tokio::test]
async fn i3_a_row_whose_key_has_a_holding_row_in_retry_is_held() {
    // GIVEN holding and other rows of `retry`, of this target and of another one
    let database = Database::create().await;
    let session = database.connect().await;
    session
        .run(&format!(
            "INSERT INTO outbox.retry (id, target, key, holds, attempts, class) VALUES
             (1, '{TARGET}', 'held', true, 1, 'refused'),
             (2, '{TARGET}', '', true, 1, 'refused'),
             (3, '{TARGET}', 'free', false, 0, 'replayed'),
             (4, 'another', 'elsewhere', true, 1, 'refused'),
             (5, '{TARGET}', NULL, true, 1, 'refused');
             SELECT setval(pg_get_serial_sequence('outbox.message', 'id'), 100);
             INSERT INTO outbox.message (topic, key) VALUES
             ('x', 'held'), ('x', ''), ('x', 'free'), ('x', 'elsewhere'), ('x', NULL), ('x', 'hel'), ('x', 'held2'), ('x', 'after');
             INSERT INTO outbox.retry (id, target, key, holds, attempts, class) VALUES (1000, '{TARGET}', 'after', true, 1, 'refused')"
        ))
        .await;
    // WHEN rows of these keys are read
    let mut consumer = Consumer::start(&database, limits()).await;
    let rows = consumer.read_until(|consumer| consumer.settled.contains(108)).await;
    // THEN exactly those whose key has an earlier holding row are held
    let held: Vec<&str> =
        rows.iter().filter(|row| row.held).filter_map(|row| row.message.key()).collect();
    assert_eq!(held, ["held", ""]);
    // WHEN the holding rows are gone
    session.run("DELETE FROM outbox.retry; INSERT INTO outbox.message (topic, key) VALUES ('x', 'held')").await;
    // THEN the key is free
    let rows = consumer.read_until(|consumer| consumer.settled.contains(109)).await;
    assert!(!rows[0].held);
}
