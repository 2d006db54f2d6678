//! What a refusal means for a message.

use std::time::Duration;

use super::Policy;
use super::backoff::Jitter;
use crate::target::{Reaction, Refusal, Setting, Trouble};

/// The verdict on a refused message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It waits in `retry` and is sent again.
    Retry { attempts: u32, due_in: Duration, reason: String },
    /// It goes to `dead`.
    Bury { attempts: u32, reason: String },
    /// It waits for its destination; nobody counts this against it.
    Park { trouble: Trouble, reason: String },
    /// It waits for a setting of its destination, while the rest of it works.
    ParkFor { setting: Setting, reason: String },
    /// It waits for other routes.
    Wait { reason: String },
    /// It is sent again, and not suspected.
    Again,
    /// It is sent again with fewer others, or alone, before anything is said about it.
    Suspect,
}

/// Decides. `attempts` are the refusals before this one; `single` says whether nothing else was in
/// flight with the message, so that the refusal can only be about it.
pub(super) fn decide(
    refusal: Refusal,
    attempts: u32,
    single: bool,
    policy: &Policy,
    jitter: &mut Jitter,
) -> Verdict {
    let Refusal { reaction, reason } = refusal;
    let attempts = attempts + 1;
    match reaction {
        Reaction::Park(trouble) => Verdict::Park { trouble, reason },
        Reaction::Route => Verdict::Wait { reason },
        Reaction::Innocent => Verdict::Again,
        Reaction::Setting(setting) if single => Verdict::ParkFor { setting, reason },
        Reaction::Setting(_) => Verdict::Suspect,
        Reaction::Suspect if !single => Verdict::Suspect,
        // Refused alone: the batch is not to blame.
        Reaction::Suspect | Reaction::Bury => Verdict::Bury { attempts, reason },
        Reaction::Retry if attempts >= policy.attempts_max => {
            Verdict::Bury { attempts, reason: format!("{reason} (attempt {attempts}, the last)") }
        }
        Reaction::Retry | Reaction::Later => {
            let due_in = policy.retry_backoff.delay(attempts, jitter);
            Verdict::Retry { attempts, due_in, reason }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(reaction: Reaction, attempts: u32, single: bool) -> Verdict {
        let policy = Policy { attempts_max: 3, ..Policy::default() };
        let refusal = Refusal { reaction, reason: "because".into() };
        decide(refusal, attempts, single, &policy, &mut Jitter::new(1))
    }

    #[test]
    fn each_reaction_has_its_verdict() {
        assert!(matches!(verdict(Reaction::Retry, 0, false), Verdict::Retry { attempts: 1, .. }));
        let park = Reaction::Park(Trouble::Refuses);
        assert!(matches!(verdict(park, 9, false), Verdict::Park { .. }), "never counted");
        assert!(matches!(verdict(Reaction::Retry, 2, false), Verdict::Bury { attempts: 3, .. }));
        assert!(matches!(verdict(Reaction::Bury, 0, false), Verdict::Bury { attempts: 1, .. }));
        assert_eq!(verdict(Reaction::Suspect, 0, false), Verdict::Suspect);
        assert!(matches!(verdict(Reaction::Later, 99, true), Verdict::Retry { attempts: 100, .. }));
        assert!(matches!(verdict(Reaction::Route, 9, true), Verdict::Wait { .. }), "never counted");
        assert_eq!(verdict(Reaction::Innocent, 9, true), Verdict::Again);
        let (setting, reason) = (Setting::Timestamp, "because".to_owned());
        assert_eq!(verdict(Reaction::Setting(setting), 0, false), Verdict::Suspect);
        let parked = Verdict::ParkFor { setting, reason };
        assert_eq!(verdict(Reaction::Setting(setting), 9, true), parked, "never counted");
        assert!(matches!(verdict(Reaction::Suspect, 0, true), Verdict::Bury { .. }));
    }
}
