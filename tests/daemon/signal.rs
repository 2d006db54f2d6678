//! Signals that other daemons take for "reload": this one says what to do, and goes on.

use crate::support::database::Database;
use crate::support::relay::RelayProcess;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_to_reload_ends_nothing_and_is_answered_in_the_log() {
    // GIVEN a relay at work
    let stage = Stage::both(Database::create().await).await;
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    // WHEN / THEN
    for signal in ["HUP", "USR1", "USR2"] {
        relay.signal(signal).await;
        relay.wait_logged(&format!("signal=\"SIG{signal}\"")).await;
    }
    assert!(relay.log().contains("restart the relay"), "{}", relay.log());
    Batch::orders(100).write(&session).await;
    stage.wait_received(100).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}
