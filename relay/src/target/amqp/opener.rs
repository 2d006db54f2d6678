//! Opens further channels on a connection, and waits for the connection's end.
//!
//! A channel that the broker has closed is gone for good, and only lapin's connection itself can open
//! another. So a task keeps it, and at the end waits for lapin's thread.

use std::time::Duration;

use lapin::{Channel, Connection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// The loss of a connection is an event, which goes to one listener only: the connection's owner. This
/// often it is looked whether one was lost without an event.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The answer's way back.
type Answer = oneshot::Sender<lapin::Result<Channel>>;

/// Asks for channels. While one of these exists, the connection is not given up by itself.
#[derive(Debug, Clone)]
pub(super) struct Opener(mpsc::UnboundedSender<Answer>);

impl Opener {
    /// Keeps the connection in a task of `tasks`, which ends when lapin's thread has ended: after the
    /// last opener and the last channel are dropped, or when the connection is lost.
    pub(super) fn keep(connection: Connection, tasks: &mut JoinSet<lapin::Result<()>>) -> Self {
        let (sender, mut asked) = mpsc::unbounded_channel::<Answer>();
        tasks.spawn(async move {
            while connection.status().connected() {
                tokio::select! {
                    answer = asked.recv() => {
                        let Some(answer) = answer else { break };
                        // Nobody waits for it any more: the channel is dropped, and closed.
                        let _ = answer.send(connection.create_channel().await);
                    }
                    () = tokio::time::sleep(WATCH_INTERVAL) => {}
                }
            }
            // Runs nothing: it lets its handle go and waits.
            let ended = tokio::task::spawn_blocking(move || connection.run()).await;
            ended.unwrap_or_else(|panic| Err(std::io::Error::other(panic).into()))
        });
        Self(sender)
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// The connection is lost, or has no room for another channel.
    pub(super) async fn open(&self) -> lapin::Result<Channel> {
        let gone = || std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}
