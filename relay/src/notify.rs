//! The service manager's notification protocol (sd_notify): READY, STATUS, WATCHDOG, STOPPING.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::board::{Board, State, summary};

/// Tells the service manager what is going on until the daemon has stopped. Without a
/// `NOTIFY_SOCKET` it does nothing, and does it for as long.
///
/// READY comes when every pipeline has found its place: leading, standing by, waiting for something
/// that is down, or stopped beside others that can run; not if nothing at all can run.
pub async fn notify(board: Board, stop: CancellationToken, stopped: CancellationToken) {
    let mut states = board.watch();
    let mut ready = false;
    let mut stopping = false;
    // Twice as often as asked, so that one late beat is no death.
    let beat = sd_notify::watchdog_enabled().map_or(Duration::from_secs(3600), |every| every / 2);
    let mut watchdog = tokio::time::interval(beat.max(Duration::from_millis(1)));
    loop {
        tokio::select! {
            biased;
            // First: a daemon with nothing in hand has stopped in the moment it was told to.
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                tell(&[NotifyState::Stopping]);
            }
            () = stopped.cancelled() => return,
            _ = watchdog.tick() => tell(&[NotifyState::Watchdog]),
            changed = states.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        let (line, placed) = {
            let states = states.borrow_and_update();
            (summary(&states), states.values().all(|state| *state != State::Starting))
        };
        tell(&[NotifyState::Status(&line)]);
        if placed && !ready && board.nothing_can_run().is_none() {
            ready = true;
            tell(&[NotifyState::Ready]);
            tracing::info!(status = line, "ready");
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}
