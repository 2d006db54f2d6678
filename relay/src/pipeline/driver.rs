//! The task that owns the target: commands in, reports out.
//!
//! A task of its own, because connecting takes long and must not be started anew each time something
//! else happens, and because encoding a message is work that another core can do.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::broker::Broker;
use crate::crash;
use crate::lease::LeaseClock;
use crate::target::{Broken, ConnectError, Event, Submission, Target};

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
    /// With where the connection leads, as far as that is known.
    Connected(Option<Broker>),
    NotConnected(ConnectError),
    Events(Vec<Event>),
    Disconnected,
}

/// Runs until the commands end; then nothing can be published any more, and the target is given back for its
/// farewell. `blocked` follows [`Target::blocked`].
pub(super) async fn drive<T: Target>(
    mut target: T,
    mut commands: UnboundedReceiver<Command>,
    reports: UnboundedSender<Report>,
    blocked: Arc<AtomicBool>,
    lease: LeaseClock,
) -> T {
    let mut connected = false;
    while let Some(report) =
        step(&mut target, &mut connected, &mut commands, &blocked, &lease).await
    {
        // The pipeline has ended: so will the commands.
        let _ = reports.send(report);
    }
    target.disconnect().await;
    target
}

/// Waits for what is next to report; `None` when the commands have ended.
///
/// The lease is looked at in every poll and before every message. A process that was stopped and goes
/// on continues in the middle of anything, with whatever stands in the channel, long after the loop
/// of the pipeline said that it may be sent.
async fn step<T: Target>(
    target: &mut T,
    connected: &mut bool,
    commands: &mut UnboundedReceiver<Command>,
    blocked: &AtomicBool,
    lease: &LeaseClock,
) -> Option<Report> {
    let mut events = Vec::new();
    loop {
        blocked.store(*connected && target.blocked(), Ordering::Relaxed);
        let look_at = lease.publish_until().min(Instant::now() + BLOCKED_INTERVAL);
        let next = async {
            tokio::select! {
                command = commands.recv() => command.map_or(Next::End, Next::Command),
                () = tokio::time::sleep_until(look_at.into()), if *connected => Next::Look,
                () = target.events(&mut events), if *connected => Next::Events,
            }
        };
        let next = tokio::select! {
            biased;
            () = lapsed(lease), if *connected => Next::Lapsed,
            next = next => next,
        };
        let command = match next {
            Next::Command(command) => command,
            Next::Look => continue,
            Next::End => return None,
            Next::Lapsed => return Some(lapse(target, connected, events).await),
            Next::Events => {
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
                for submission in submissions {
                    if !lease.may_publish(Instant::now()) {
                        return Some(lapse(target, connected, events).await);
                    }
                    target.submit(submission);
                }
                crash::point(crash::AFTER_SEND);
            }
            Command::Disconnect => {
                *connected = false;
                target.disconnect().await;
                return Some(Report::Disconnected);
            }
            // It would take the fence from whoever leads by now.
            Command::Connect if !lease.may_publish(Instant::now()) => {
                return Some(Report::NotConnected(ConnectError::Outage(LAPSED.into())));
            }
            Command::Connect => {
                let Some(outcome) = connect(target, commands).await? else {
                    target.disconnect().await;
                    return Some(Report::Disconnected);
                };
                *connected = outcome.is_ok();
                let connected = |()| Report::Connected(target.broker());
                return Some(outcome.map_or_else(Report::NotConnected, connected));
            }
        }
    }
}

/// What a step woke for.
enum Next {
    Command(Command),
    Events,
    Look,
    Lapsed,
    End,
}

/// Ready whenever it is polled while the lease is in doubt; it wakes nobody.
async fn lapsed(lease: &LeaseClock) {
    std::future::poll_fn(|_| match lease.may_publish(Instant::now()) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
}

/// Drops the connection: what is unconfirmed is unknown.
async fn lapse<T: Target>(target: &mut T, connected: &mut bool, mut events: Vec<Event>) -> Report {
    *connected = false;
    target.disconnect().await;
    events.push(Event::Broken(Broken { reason: LAPSED.into(), suspect: None }));
    Report::Events(events)
}

const LAPSED: &str = "the lease was not renewed in time";
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
