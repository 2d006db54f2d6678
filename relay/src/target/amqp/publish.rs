//! One publish on its way to its confirm.
//!
//! lapin's future of a publish carries everything that it was called with, 1.3 KB a message. Once the frames are
//! written only the confirm is still to come, and half a window of messages waits for theirs.

use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use lapin::Confirmation;

/// What the broker will say.
pub(super) type Confirm = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// A publish, at one of its two stages.
pub(super) enum Publish {
    /// The frames are handed over, and may wait for the socket.
    Writing(Pin<Box<dyn Future<Output = lapin::Result<Confirm>> + Send>>),
    /// They are written.
    Written(Confirm),
}

impl Publish {
    /// lapin takes the delivery tag and queues the frames in the first poll, which is here.
    pub(super) fn begin(
        writing: impl Future<Output = lapin::Result<Confirm>> + Send + 'static,
    ) -> Self {
        let mut publish = Self::Writing(Box::pin(writing));
        publish.is_written();
        publish
    }

    /// Whether its frames are written; looks without asking to be woken.
    pub(super) fn is_written(&mut self) -> bool {
        self.poll_written(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<&mut Confirm> {
        if let Self::Writing(writing) = self {
            let outcome = std::task::ready!(writing.as_mut().poll(cx));
            *self = Self::Written(outcome.unwrap_or_else(|error| Box::pin(ready(Err(error)))));
        }
        match self {
            Self::Written(confirm) => Poll::Ready(confirm),
            Self::Writing(_) => Poll::Pending,
        }
    }

    /// Waits for the confirm.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<lapin::Result<Confirmation>> {
        std::task::ready!(self.poll_written(cx)).as_mut().poll(cx)
    }
}
