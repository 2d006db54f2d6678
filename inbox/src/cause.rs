//! Why a message comes again, as far as anybody knows. Only what nobody can explain is worth an alarm.

/// The relay says why it sends a message once more.
pub(crate) const RESENT_HEADER: &str = "x-outbox-resent";
/// The relay says which replay a message belongs to.
pub(crate) const REPLAY_HEADER: &str = "x-outbox-replay";

/// Why a delivery may be a repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A person had it sent again.
    Replay,
    /// The relay did not know whether it had been sent.
    RelayRetry,
    /// The broker had delivered it, and was not told that it was done.
    Redelivered,
    /// Nothing says that it is one.
    Unknown,
}

impl Cause {
    /// The most specific of what is known. A broker's flag says nothing about a message that was
    /// published twice, hence it comes last.
    #[must_use]
    pub fn of(replay: bool, resent: bool, redelivered: bool) -> Self {
        if replay {
            Self::Replay
        } else if resent {
            Self::RelayRetry
        } else if redelivered {
            Self::Redelivered
        } else {
            Self::Unknown
        }
    }

    /// As in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::RelayRetry => "relay_retry",
            Self::Redelivered => "redelivered",
            Self::Unknown => "unknown",
        }
    }
}
