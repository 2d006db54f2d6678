//! The task that owns the target: commands in, reports out.
//!
//! A task of its own, because connecting takes long and must not be started anew each time something
//! else happens, and because encoding a message is work that another core can do.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::target::{ConnectError, Event, Submission, Target};

/// A broker that blocks its publishers says so to the client library only; this often it is asked.
const BLOCKED_INTERVAL: Duration = Duration::from_secs(1);

/// What the pipeline asks of the target. The channel needs no bound of its own: what is submitted
/// is bounded by the window.
#[derive(Debug)]
pub(super) enum Command {
    Connect,
    Submit(Vec<Submission>),
    /// Drop the connection at once; answered by `Disconnected`.
    Disconnect,
}

/// What the target has to say. `Events` that end with `Broken` leave it disconnected.
#[derive(Debug)]
pub(super) enum Report {
    Connected,
    NotConnected(ConnectError),
    Events(Vec<Event>),
    Disconnected,
}

/// Runs until the commands end; then nothing that is unconfirmed can still be published. `blocked`
/// follows [`Target::blocked`].
pub(super) async fn drive<T: Target>(
    mut target: T,
    mut commands: UnboundedReceiver<Command>,
    reports: UnboundedSender<Report>,
    blocked: Arc<AtomicBool>,
) {
    let mut connected = false;
    while let Some(report) = step(&mut target, &mut connected, &mut commands, &blocked).await {
        // The pipeline has ended: so will the commands.
        let _ = reports.send(report);
    }
    target.disconnect().await;
}

/// Waits for what is next to report; `None` when the commands have ended.
async fn step<T: Target>(
    target: &mut T,
    connected: &mut bool,
    commands: &mut UnboundedReceiver<Command>,
    blocked: &AtomicBool,
) -> Option<Report> {
    let mut events = Vec::new();
    loop {
        blocked.store(*connected && target.blocked(), Ordering::Relaxed);
        let command = tokio::select! {
            command = commands.recv() => command?,
            () = tokio::time::sleep(BLOCKED_INTERVAL), if *connected => continue,
            () = target.events(&mut events), if *connected => {
                if matches!(events.last(), Some(Event::Broken(_))) {
                    *connected = false;
                    target.disconnect().await;
                }
                return Some(Report::Events(events));
            }
        };
        match command {
            // What was on its way when the connection broke is sent again by the flow.
            Command::Submit(_) if !*connected => {}
            Command::Submit(submissions) => {
                submissions.into_iter().for_each(|submission| target.submit(submission));
            }
            Command::Disconnect => {
                *connected = false;
                target.disconnect().await;
                return Some(Report::Disconnected);
            }
            Command::Connect => {
                let Some(outcome) = connect(target, commands).await? else {
                    target.disconnect().await;
                    return Some(Report::Disconnected);
                };
                *connected = outcome.is_ok();
                return Some(outcome.map_or_else(Report::NotConnected, |()| Report::Connected));
            }
        }
    }
}

/// Connects, unless it is asked to disconnect meanwhile (`Some(None)`), or the commands end (`None`).
async fn connect<T: Target>(
    target: &mut T,
    commands: &mut UnboundedReceiver<Command>,
) -> Option<Option<Result<(), ConnectError>>> {
    let mut outcome = pin!(target.connect());
    loop {
        tokio::select! {
            outcome = &mut outcome => return Some(Some(outcome)),
            command = commands.recv() => match command? {
                Command::Disconnect => return Some(None),
                // Asked already; and what was on its way to the last connection is sent again.
                Command::Connect | Command::Submit(_) => {}
            },
        }
    }
}
