//! How long a test waits for an event before it calls it missing. No test asserts a time: this is
//! only the difference between a failed test and one that hangs.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

/// Long enough for a broker that restarts on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two looks at something that announces nothing (a table, a process, a port).
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Waits for `event`.
///
/// # Panics
/// When it has not come after [`PATIENCE`]; `what` says what was waited for.
pub(crate) async fn wait_for<T>(what: impl Display, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Looks again and again until `look` finds something.
///
/// # Panics
/// When it has found nothing after [`PATIENCE`].
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    wait_for(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    })
    .await
}
