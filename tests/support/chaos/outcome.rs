//! The verdict of a cell: one line a target.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::Fault;
use super::cell::{Notes, UNSETTLED_ROWS_MAX};
use super::fault::Scene;
use crate::support::checker::{Committed, Delivery, Report, check};
use crate::support::session::Session;
use crate::support::stage::Stage;

/// What the silence after a strike measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    Unnamed,
    /// From the last message of the target's old leader to the first of its new one.
    Failover(&'static str),
}

/// What became of a cell.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) lines: Vec<Line>,
    /// Whatever else was not as it should be.
    pub(crate) problems: Vec<String>,
    /// Everything that its relays logged.
    pub(crate) log: String,
}

/// The verdict about one target.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) target: &'static str,
    pub(crate) report: Report,
    /// Neither received nor in `dead`.
    pub(crate) lost: usize,
    /// In `dead`, as they had to be.
    pub(crate) dead: usize,
    /// In `dead`, though nothing was wrong with them.
    pub(crate) blamed: usize,
    /// Behind a refused message, in flight with it: I3's named exception.
    pub(crate) excused: usize,
    pub(crate) duplicates_max: usize,
    /// Nothing of a predecessor may enter after its successor's first message.
    pub(crate) fenced: bool,
    /// From the mend to the first new message, or the longest silence where nothing had to be mended; microseconds.
    pub(crate) recovery_us: Option<i64>,
    /// What each strike cost that ended a leader.
    pub(crate) failover_us: Vec<i64>,
}

impl Line {
    pub(crate) fn is_clean(&self) -> bool {
        let Self { report, .. } = self;
        self.lost == 0
            && self.blamed == 0
            && report.phantom.is_empty()
            && report.reordered.len() == self.excused
            && report.identical == report.duplicates
            && report.duplicates <= self.duplicates_max
            && (report.unsaid == 0 || !self.fenced)
    }
}

impl Outcome {
    pub(crate) fn is_clean(&self) -> bool {
        self.problems.is_empty() && self.lines.iter().all(Line::is_clean)
    }

    /// A cell that ended early.
    pub(crate) fn failed(problem: String) -> Self {
        Self { lines: Vec::new(), problems: vec![problem], log: String::new() }
    }

    /// Everything that a person needs to see why it is not clean.
    pub(crate) fn describe(&self) -> String {
        let mut text = self.problems.join("\n");
        for line in self.lines.iter().filter(|line| !line.is_clean()) {
            text.push_str(&format!(
                "\n{}\n{} (lost without `dead`: {}, blamed: {}, duplicates at most {}, {} of them do not say so)\n{}",
                Report::HEADING,
                line.report.row(line.target),
                line.lost,
                line.blamed,
                line.duplicates_max,
                line.report.unsaid,
                line.report.examples(),
            ));
        }
        text
    }
}

/// Compares what was committed with what both targets received.
pub(super) async fn judge(
    stage: &Stage,
    session: &Session,
    faults: &[&Fault],
    journal: &[Committed],
    notes: &Notes,
    connections: &HashMap<&'static str, usize>,
    log: String,
) -> Outcome {
    let mut lines = Vec::new();
    for (target, consumer) in &stage.consumers {
        consumer.drain().await;
        let deliveries = consumer.deliveries();
        let report = checked(journal, &deliveries, target, notes);
        let dead = dead(session, target).await;
        let bad = notes.bad.get(target).cloned().unwrap_or_default();
        let again = connections.get(target).copied().unwrap_or(0).saturating_sub(1);
        let refused = faults.iter().any(|fault| fault.refuses);
        lines.push(Line {
            target,
            lost: report.lost.iter().filter(|id| !dead.contains(id)).count(),
            dead: dead.intersection(&bad).count(),
            blamed: dead.difference(&bad).count(),
            excused: if refused { report.reordered.len() } else { 0 },
            duplicates_max: again * UNSETTLED_ROWS_MAX + notes.rebuilt * journal.len(),
            // Nobody knows what had been sent before a rebuild.
            fenced: notes.rebuilt == 0
                && (*target == "amqp") != faults.iter().any(|f| f.scene == Scene::OtherFences),
            recovery_us: recovery(&deliveries, notes),
            failover_us: failovers(&deliveries, target, notes),
            report,
        });
    }
    Outcome { lines, problems: notes.problems.clone(), log }
}

/// Where the ids began anew, each half is judged for itself: a row's number means another message.
fn checked(journal: &[Committed], deliveries: &[Delivery], target: &str, notes: &Notes) -> Report {
    let Some(cut) = &notes.cut else { return check(journal, deliveries) };
    let (before, after): (Vec<Committed>, Vec<Committed>) =
        journal.iter().cloned().partition(|c| cut.journal.contains(&c.message_id));
    let (first, second) = deliveries.split_at(cut.deliveries[target]);
    let mut report = check(&before, first);
    report.add(check(&after, second));
    report
}

async fn dead(session: &Session, target: &str) -> HashSet<Uuid> {
    let sql = "SELECT message_id FROM outbox.dead WHERE target = $1 AND reason <> ''";
    let rows = session.query(sql, &[&target]).await.expect("outbox.dead can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

fn recovery(deliveries: &[Delivery], notes: &Notes) -> Option<i64> {
    let Some(mended_at) = notes.mended_at else {
        let (struck_at, _) = notes.strikes.last()?;
        return longest_silence(deliveries, *struck_at, i64::MAX);
    };
    let mut seen = HashSet::new();
    let new = deliveries.iter().filter(|d| seen.insert(d.message_id));
    new.map(|d| d.received_at_us - mended_at).find(|&after| after > 0)
}

fn failovers(deliveries: &[Delivery], target: &'static str, notes: &Notes) -> Vec<i64> {
    let ends = notes.strikes.iter().skip(1).map(|(at, _)| *at).chain([i64::MAX]);
    let strikes = notes.strikes.iter().zip(ends);
    strikes
        .filter(|((_, silence), _)| *silence == Silence::Failover(target))
        .filter_map(|((at, _), end)| take_over(deliveries, *at, end))
        .collect()
}

/// From the last message of who led at `since` to the first of another, if that came before `until`.
fn take_over(deliveries: &[Delivery], since: i64, until: i64) -> Option<i64> {
    let old = &deliveries.iter().rfind(|d| d.received_at_us <= since)?.relay;
    let new = |d: &Delivery| d.received_at_us > since && d.relay != *old;
    let first =
        deliveries.iter().position(new).filter(|&n| deliveries[n].received_at_us <= until)?;
    let last = deliveries[..first].iter().rfind(|d| d.relay == *old)?;
    Some(deliveries[first].received_at_us - last.received_at_us)
}

/// The longest pause between two new messages that ended after `since` and not after `until`.
fn longest_silence(deliveries: &[Delivery], since: i64, until: i64) -> Option<i64> {
    let mut seen = HashSet::new();
    let times: Vec<i64> =
        deliveries.iter().filter(|d| seen.insert(d.message_id)).map(|d| d.received_at_us).collect();
    let pairs = times.windows(2).filter(|pair| pair[1] > since && pair[1] <= until);
    pairs.map(|pair| pair[1] - pair[0]).max()
}

#[cfg(test)]
mod tests;
