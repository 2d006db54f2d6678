//! Where a consumer process ends itself, and how it is told.

/// A place where an end hurts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    /// The handler is done, the provider has charged, nothing is committed.
    BeforeCommit,
    /// Everything is committed, the broker knows nothing of it.
    BeforeAck,
    /// Of a control: the claim is committed, the effect is not begun.
    AfterClaim,
}

/// `POINT:PASS`, for instance `before_ack:3`.
const VARIABLE: &str = "OUTBOX_PROOF_CRASH_POINT";

impl CrashPoint {
    const ALL: [Self; 3] = [Self::BeforeCommit, Self::BeforeAck, Self::AfterClaim];

    fn name(self) -> &'static str {
        match self {
            Self::BeforeCommit => "before_commit",
            Self::BeforeAck => "before_ack",
            Self::AfterClaim => "after_claim",
        }
    }

    /// As the report calls it.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::BeforeCommit => "consumer ended after the handler, before COMMIT",
            Self::BeforeAck => "consumer ended after COMMIT, before the ack",
            Self::AfterClaim => "consumer ended after the claim, before the effect",
        }
    }

    /// For the environment of a process that is to end at its `pass`th time there.
    pub(crate) fn variable(self, pass: u64) -> (&'static str, String) {
        (VARIABLE, format!("{}:{pass}", self.name()))
    }

    /// What this process was told.
    pub(crate) fn armed() -> Option<(Self, u64)> {
        let text = std::env::var(VARIABLE).ok()?;
        let (name, pass) = text.split_once(':')?;
        let point = Self::ALL.into_iter().find(|point| point.name() == name)?;
        Some((point, pass.parse().ok()?))
    }
}
