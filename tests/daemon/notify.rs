//! The notify protocol of a `Type=notify` unit, over a real socket.

use crate::support::database::Database;
use crate::support::relay::RelayStart;
use crate::support::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_ready_status_watchdog_and_stopping() {
    // GIVEN a service manager that watches
    let stage = Stage::both(Database::create().await).await;
    let start = RelayStart::new(&stage.config).env("WATCHDOG_USEC", "1000000");

    // WHEN the daemon runs and is asked to end
    let mut relay = start.ready().await;
    relay.wait_notified("STATUS=").await;
    relay.wait_notified("WATCHDOG=1").await;
    relay.signal("TERM").await;
    let status = relay.wait_exit().await;

    // THEN it has said each thing in its turn
    assert!(status.success(), "{status}:\n{}", relay.log());
    relay.wait_notified("STOPPING=1").await;
    let lines = relay.notified();
    let at = |line: &str| lines.iter().position(|l| l.starts_with(line));
    assert!(at("READY=1") < at("STOPPING=1"), "{lines:?}");
}
