//! Consumers that are wrong on purpose, judged by the same verdict: what it does not find here, it would
//! not find in the real one.

use std::str::FromStr;

use super::crash::CrashPoint;
use super::crew::Crew;
use super::found::{Found, Wanted};
use super::plan::Plan;
use super::request;
use super::rig::Rig;
use super::run::{Running, consume};
use super::verdict::Verdict;

const MESSAGES: usize = 60;

/// What a consumer does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// It looks whether the message was processed, and then processes it.
    CheckThenInsert,
    /// It commits its claim, and then processes the message.
    ClaimCommittedFirst,
    /// It takes the hash of the payload for the id.
    HashOfPayload,
}

impl Mistake {
    pub(crate) const ALL: [Self; 3] =
        [Self::CheckThenInsert, Self::ClaimCommittedFirst, Self::HashOfPayload];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CheckThenInsert => "check-then-insert",
            Self::ClaimCommittedFirst => "claim-committed-first",
            Self::HashOfPayload => "hash-of-payload",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::CheckThenInsert => "both brokers' consumers look before either inserts",
            Self::ClaimCommittedFirst => "a consumer ends between its claim and the effect",
            Self::HashOfPayload => "two intentions have the same payload",
        }
    }

    /// Whether the verdict blames it, and for what it does.
    pub(crate) fn is_caught(self, verdict: &Verdict) -> bool {
        let blamed = match self {
            Self::CheckThenInsert => verdict.found.doubled,
            Self::ClaimCommittedFirst | Self::HashOfPayload => verdict.found.lost,
        };
        !verdict.holds() && blamed > 0
    }
}

impl FromStr for Mistake {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|mistake| mistake.name() == name);
        let names = Self::ALL.map(Self::name).join(", ");
        named.ok_or_else(|| format!("no control {name}: there are {names}"))
    }
}

/// Lets such consumers work off some messages.
pub(crate) async fn run(mistake: Mistake, seed: u64) -> Verdict {
    judge(Some(mistake), seed).await
}

/// The same with consumers as they should be: what the others are measured against.
pub(crate) async fn without_mistake(seed: u64) -> Verdict {
    judge(None, seed).await
}

async fn judge(mistake: Option<Mistake>, seed: u64) -> Verdict {
    let plan = Plan::calm(MESSAGES, seed);
    let rig = Rig::set(&plan, mistake).await;
    let requests = rig.requests.connect().await;
    request::write(&requests, &plan).await;
    let wanted = Wanted::read(&rig).await;
    if mistake == Some(Mistake::CheckThenInsert) {
        // Its second call can only be that of the other broker's consumer, which has found nothing either.
        rig.provider.hold(*wanted.by_both.iter().next().expect("there are requests"));
    }
    // Whoever claims first is lost: it is only not known which of them that is.
    let ends = || match mistake {
        Some(Mistake::ClaimCommittedFirst) => vec![(CrashPoint::AfterClaim, 1)],
        _ => Vec::new(),
    };
    let crew = Crew::start(&rig, ends);
    Running::start(&rig, Vec::new()).while_it_runs(consume(&rig, crew)).await;
    let found = Found::read(&rig, &wanted).await;
    Verdict::of(&wanted, &found, &rig.tally)
}
