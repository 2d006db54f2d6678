//! The relay of a run: it ends between a confirm and its mark as often as planned, and is started again.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::tally::Tally;
use crate::support::relay::{RelayConfig, RelayProcess, RelayStart};

pub(crate) const CRASHED: &str = "relay ended between confirm and mark";

/// Runs until it is told to stop; `passes`: at which confirm each life but the last ends.
pub(crate) async fn supervise(
    config: RelayConfig,
    passes: Vec<usize>,
    tally: Arc<Tally>,
    stop: CancellationToken,
) {
    for pass in passes {
        let mut relay = RelayStart::new(&config).crash_at("after_confirm", pass).spawn();
        tokio::select! {
            _ = relay.wait_exit() => tally.count(CRASHED),
            () = stop.cancelled() => {
                relay.terminate().await;
                return;
            }
        }
    }
    let relay = RelayProcess::start(&config).await;
    stop.cancelled().await;
    let ended = relay.terminate().await;
    if !ended.success() {
        tally.problem(format!("the relay ended with {ended} when it was asked to"));
    }
}
