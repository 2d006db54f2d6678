//! What a run must come to, line by line.

use super::crash::CrashPoint;
use super::fault::Fault;
use super::found::{Found, Wanted};
use super::plan::Plan;
use super::tally::Tally;
use super::{provider, relay};

/// What a consumer process says of a message that it had before.
const DUPLICATE: &str = "duplicate";

/// One line of it.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) what: &'static str,
    pub(crate) expected: i64,
    pub(crate) found: i64,
    at_least: bool,
}

/// The comparison, and what it was made under.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    pub(crate) found: Found,
    pub(crate) lines: Vec<Line>,
    pub(crate) happened: Vec<(&'static str, usize)>,
    pub(crate) problems: Vec<String>,
}

impl Line {
    pub(crate) fn holds(&self) -> bool {
        if self.at_least { self.found >= self.expected } else { self.found == self.expected }
    }
}

impl Verdict {
    /// Of what was found when all was consumed.
    pub(crate) fn of(wanted: &Wanted, found: &Found, tally: &Tally) -> Self {
        let mut verdict = Self { found: found.clone(), ..Self::default() };
        let good = wanted.good.len();
        verdict.exactly("payments", good, found.payments);
        verdict.exactly("  of distinct ids", good, found.paid);
        verdict.exactly("  lost", 0, found.lost);
        verdict.exactly("  twice", 0, found.doubled);
        verdict.exactly("  never asked for, or another amount", 0, found.invented);
        verdict.line("  their sum, in cents", wanted.sum(), found.sum);
        verdict.exactly("charges at the provider", good, found.charges);
        verdict.exactly("  of distinct payments", good, found.charged);
        verdict.line("  their sum, in cents", wanted.sum(), found.charged_sum);
        verdict.exactly("  that are the charge of their payment", good, found.matched);
        verdict.exactly("follow-up messages in the outbox", good, found.follow_ups);
        verdict.exactly("poison parked", wanted.poison.len(), found.parked_poison);
        verdict.exactly("  anything else parked", 0, found.parked_others);
        for word in ["done", DUPLICATE, "retry", "parked", "back"] {
            verdict.happened.push((said(word), tally.of(word)));
        }
        verdict.problems = tally.problems();
        verdict
    }

    /// Poison is found among the dead letters.
    pub(crate) fn dead_letters(&mut self, poison: usize, found: usize) {
        self.exactly("  among RabbitMQ's dead letters", poison, found);
    }

    /// A replay of everything by every broker that has had it changes nothing.
    pub(crate) fn replayed(
        &mut self,
        deliveries: usize,
        before: &Found,
        after: &Found,
        duplicates: usize,
    ) {
        self.lines.push(Line {
            what: "replay: deliveries ignored as duplicates",
            expected: deliveries as i64,
            found: duplicates as i64,
            at_least: true,
        });
        self.exactly("  payments after it", before.payments, after.payments);
        self.exactly("  charges after it", before.charges, after.charges);
        self.exactly("  follow-ups after it", before.follow_ups, after.follow_ups);
        self.exactly("  anything else that changed", 0, usize::from(before != after));
    }

    /// What does not happen proves nothing: everything that was planned has struck.
    pub(crate) fn faults(&mut self, plan: &Plan, tally: &Tally) {
        let consumers = 4;
        let ends = [CrashPoint::BeforeCommit, CrashPoint::BeforeAck];
        let planned = ends.map(|point| (point.about(), consumers * plan.crashes));
        let planned = planned.into_iter().chain([(relay::CRASHED, plan.relay_crashes)]);
        let struck = Fault::ALL.map(|fault| (fault.about(), plan.strikes));
        let called = [(provider::FAILED, 1), (provider::CUT, 1)];
        for (what, times) in planned.chain(struck).chain(called) {
            let found = tally.of(what);
            self.happened.push((what, found));
            // A consumer that is struck from outside may miss an end that was meant for it.
            let least = if times == 0 { 0 } else { 1 };
            if found < least {
                tally.problem(format!("it did not happen: {what}"));
            }
        }
    }

    fn exactly(&mut self, what: &'static str, expected: usize, found: usize) {
        self.line(what, expected as i64, found as i64);
    }

    fn line(&mut self, what: &'static str, expected: i64, found: i64) {
        self.lines.push(Line { what, expected, found, at_least: false });
    }

    pub(crate) fn holds(&self) -> bool {
        self.problems.is_empty() && self.lines.iter().all(Line::holds)
    }

    /// # Panics
    /// With everything that is wrong, unless it holds.
    pub(crate) fn assert_holds(&self) {
        let wrong: Vec<&Line> = self.lines.iter().filter(|line| !line.holds()).collect();
        assert!(self.holds(), "{wrong:#?}\n{:#?}\n{:#?}", self.problems, self.happened);
    }
}

fn said(word: &str) -> &'static str {
    match word {
        "done" => "messages done",
        DUPLICATE => "duplicates ignored",
        "retry" => "attempts that failed",
        "parked" => "deliveries of what is parked",
        _ => "deliveries that went back without an attempt",
    }
}
