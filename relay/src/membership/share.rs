//! How many pipelines a relay should lead, and when it hands one over. Pure.
//!
//! A target that n relays have counts 1/n for each of them; the sum, rounded up, is a relay's share.
//! A relay that leads more hands one over, to whoever leads less than its share. Shares add up to at
//! least the number of pipelines, so where all relays have the same targets somebody has room as long
//! as somebody has too many. Where they have not, a pipeline may find nobody and come back: then its
//! relay waits ever longer until it offers one again, or until the relays change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How many relays have each of this relay's targets, itself included.
pub type Relays = BTreeMap<String, usize>;

/// A relay that nobody helps asks again this rarely.
const INTERVAL_MAX: Duration = Duration::from_secs(300);

/// How many pipelines a relay should lead at most.
#[must_use]
pub fn share(relays: &Relays) -> usize {
    let parts: f64 = relays.values().map(|&count| 1.0 / count.max(1) as f64).sum();
    // Three thirds are one.
    (parts - 1e-9).ceil() as usize
}

/// Decides when a pipeline is handed over, and which: one at a time.
#[derive(Debug)]
pub(super) struct Balance {
    interval_min: Duration,
    interval: Duration,
    next_at: Instant,
    /// As of the last decision.
    relays: Relays,
    offered: Option<String>,
}

impl Balance {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval_min: interval,
            interval,
            next_at: now + interval,
            relays: Relays::new(),
            offered: None,
        }
    }

    /// The pipeline to hand over now, if any.
    pub(super) fn decide(
        &mut self,
        now: Instant,
        relays: &Relays,
        leading: &BTreeSet<String>,
    ) -> Option<String> {
        if self.relays != *relays {
            self.relays.clone_from(relays);
            self.offered = None;
            self.interval = self.interval_min;
            // Relays that start or end together have settled by then.
            self.next_at = now + self.interval;
        }
        if leading.len() <= share(relays) || now < self.next_at {
            return None;
        }
        let shared = |name: &&String| relays.get(*name).is_some_and(|&count| count > 1);
        let last = self.offered.take();
        // In turn: what came back is not offered again before the others.
        let after = |name: &&String| last.as_ref().is_none_or(|last| *name > last);
        let mut candidates = leading.iter().filter(shared);
        let next = candidates.clone().find(after).or_else(|| candidates.next())?.clone();
        if last.is_some_and(|last| leading.contains(&last)) {
            self.interval = (self.interval * 2).min(INTERVAL_MAX);
        }
        self.next_at = now + self.interval;
        self.offered = Some(next.clone());
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relays(counts: &[(&str, usize)]) -> Relays {
        counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn a_share_is_rounded_up() {
        for (counts, expected) in [
            (&[][..], 0),
            (&[("a", 1)], 1),
            (&[("a", 3)], 1),
            (&[("a", 3), ("b", 3), ("c", 3)], 1),
            (&[("a", 2), ("b", 2), ("c", 2), ("d", 2)], 2),
            (&[("a", 3), ("b", 3), ("c", 3), ("d", 3)], 2),
            (&[("a", 1), ("b", 1), ("c", 2), ("d", 2)], 3),
        ] {
            assert_eq!(share(&relays(counts)), expected, "{counts:?}");
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_at_a_time_and_only_what_another_relay_has() {
        let start = Instant::now();
        let mut balance = Balance::new(SECOND, start);
        let relays = relays(&[("a", 1), ("b", 2), ("c", 2), ("d", 2)]);
        let mut leading: BTreeSet<_> = ["a", "b", "c", "d"].map(str::to_owned).into();
        assert_eq!(balance.decide(start, &relays, &leading), None, "the relays have just changed");
        let at = start + SECOND;
        assert_eq!(balance.decide(at, &relays, &leading), Some("b".into()));
        leading.remove("b");
        assert_eq!(balance.decide(at + SECOND * 9, &relays, &leading), None, "three of 2.5");
    }

    #[test]
    fn what_nobody_takes_is_offered_ever_more_rarely() {
        let start = Instant::now();
        let mut balance = Balance::new(SECOND, start);
        let relays = relays(&[("a", 2), ("b", 2)]);
        let leading: BTreeSet<_> = ["a", "b"].map(str::to_owned).into();
        let mut offers = Vec::new();
        for second in 0..40 {
            let offer = balance.decide(start + SECOND * second, &relays, &leading);
            offers.extend(offer.map(|name| (second, name)));
        }
        let expected = [(1, "a"), (2, "b"), (4, "a"), (8, "b"), (16, "a"), (32, "b")];
        assert_eq!(offers, expected.map(|(second, name)| (second, name.to_owned())));
    }

    /// Relays with arbitrary targets, each of which may be led by any that has it: after a bounded
    /// number of hand-overs everything is led and nothing moves any more.
    #[test]
    fn any_relays_come_to_rest() {
        for seed in 0..500_u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut random = move |below: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state % below as u64) as usize
            };
            let names: Vec<String> = (0..1 + random(8)).map(|n| format!("t{n}")).collect();
            let mut has: Vec<BTreeSet<String>> = (0..1 + random(5))
                .map(|_| names.iter().filter(|_| random(3) > 0).cloned().collect())
                .collect();
            has[0].extend(names.iter().cloned());
            let count = |name: &String| has.iter().filter(|set| set.contains(name)).count();
            let counts: Vec<Relays> = has
                .iter()
                .map(|set| set.iter().map(|name| (name.clone(), count(name))).collect())
                .collect();
            // The first was there alone.
            let mut leads: Vec<BTreeSet<String>> = vec![BTreeSet::new(); has.len()];
            leads[0].extend(names.iter().cloned());
            let start = Instant::now();
            let mut balances: Vec<_> = has.iter().map(|_| Balance::new(SECOND, start)).collect();
            let mut moved_at = 0;
            for second in 0..200 {
                for relay in 0..has.len() {
                    let now = start + SECOND * second;
                    let Some(name) = balances[relay].decide(now, &counts[relay], &leads[relay])
                    else {
                        continue;
                    };
                    leads[relay].remove(&name);
                    // Whoever has room takes it; else it comes back.
                    let room = |other: &usize| {
                        has[*other].contains(&name) && leads[*other].len() < share(&counts[*other])
                    };
                    let mut others = (0..has.len()).filter(|&other| other != relay);
                    let taker = others.rfind(room).unwrap_or(relay);
                    if taker != relay {
                        moved_at = second;
                    }
                    leads[taker].insert(name);
                }
            }
            let led: usize = leads.iter().map(BTreeSet::len).sum();
            assert_eq!(led, names.len(), "seed {seed}");
            assert!(moved_at < 60, "seed {seed}: moved at {moved_at}");
            if has.iter().all(|set| set.len() == names.len()) {
                let most = leads.iter().map(BTreeSet::len).max().unwrap_or(0);
                assert!(most <= names.len().div_ceil(has.len()), "seed {seed}: {leads:?}");
            }
        }
    }
}
