//! A message that ends every process that sends it.

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::progress::wait_settled;
use crate::support::relay::RelayStart;
use crate::support::services::Services;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

/// Lives that it may take to find it.
const LIVES_MAX: usize = 12;

/// GIVEN a message that ends the process, among others WHEN the service manager starts the relay again
/// and again THEN it is found and dead, and all the others arrive, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_message_that_ends_the_process_is_set_aside() {
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let session = stage.session().await;
    Batch { keys: 5, ..Batch::orders(100) }.write(&session).await;
    let killer = session
        .count("INSERT INTO outbox.message (topic, key, payload) VALUES ('order.placed', 'killer', 'x') RETURNING id")
        .await;
    Batch { keys: 5, ..Batch::orders(100) }.write(&session).await;

    let mut lives = 0;
    let relay = loop {
        let mut relay = RelayStart::new(&stage.config)
            .env("OUTBOX_RELAY_CRASH_ROW", killer.to_string())
            .spawn();
        lives += 1;
        let ended = tokio::select! {
            _ = relay.wait_exit() => true,
            () = stage.wait_received(200) => false,
        };
        if !ended {
            break relay;
        }
        assert!(lives < LIVES_MAX, "never found: {}", relay.log());
    };
    assert!(lives > 2, "it ended nobody");

    wait_settled(&session, 1).await;
    let reason = "SELECT count(*) FROM outbox.dead WHERE reason LIKE 'the process ended 2 times%'";
    assert_eq!(session.count(reason).await, 1);
    assert_eq!(session.count("SELECT id FROM outbox.dead").await, killer);
    assert!(relay.terminate().await.success());
    let careful = "SELECT count(*) FROM outbox.ledger WHERE crashes > 0 OR suspected > 0";
    assert_eq!(session.count(careful).await, 0, "the next life is as any other");
    stage.assert_exact(&committed(&session).await).await;
}
