//! The matrix: what it prints while it grows, and the page that is left.

use std::fmt::Write as _;

use crate::arguments::Arguments;
use crate::support::chaos::control::{Caught, Mistake};
use crate::support::chaos::outcome::{Line, Outcome};

/// The cells so far.
#[derive(Default)]
pub(crate) struct Matrix {
    pub(crate) rows: Vec<Row>,
    pub(crate) controls: Vec<(Mistake, Caught)>,
}

/// One cell.
pub(crate) struct Row {
    /// Of its faults, with `+` between them.
    pub(crate) name: String,
    pub(crate) about: Vec<&'static str>,
    pub(crate) seed: u64,
    /// `Err`: why it was not run.
    pub(crate) outcome: Result<Outcome, String>,
}

impl Row {
    /// For whoever watches.
    pub(crate) fn line(&self) -> String {
        let outcome = match &self.outcome {
            Ok(outcome) => outcome,
            Err(reason) => return format!("not run  {:<28} {reason}", self.name),
        };
        let mut text = if outcome.is_clean() { "clean    " } else { "UNCLEAN  " }.to_owned();
        // Writing to a String does not fail.
        let _ = write!(text, "{:<28}", self.name);
        for line in &outcome.lines {
            let _ = write!(
                text,
                "  {} {} lost {} phantom {} reordered {} dup {}/{} unsaid {} back {}",
                line.target,
                line.report.committed,
                line.lost,
                line.report.phantom.len(),
                reordered(line),
                line.report.duplicates,
                line.duplicates_max,
                line.report.unsaid,
                ms(line.recovery_us),
            );
        }
        text
    }
}

impl Matrix {
    /// Cells and controls that are not as they should be.
    pub(crate) fn unclean(&self) -> Vec<(String, u64)> {
        let cells =
            self.rows.iter().filter(|row| row.outcome.as_ref().is_ok_and(|o| !o.is_clean()));
        let mut unclean: Vec<_> = cells.map(|row| (row.name.clone(), row.seed)).collect();
        let missed = self.controls.iter().filter(|(_, caught)| !caught.is_caught());
        unclean.extend(missed.map(|(mistake, _)| (mistake.name().to_owned(), 0)));
        unclean
    }

    /// Times from the last message of the old leader to the first of the new one.
    pub(crate) fn failovers(&self) -> String {
        let mut text =
            "\n| the leader | target | times | median | longest |\n|---|---|--:|--:|--:|\n"
                .to_owned();
        // What two faults at once silence is not the take-over's time alone.
        for row in self.rows.iter().filter(|row| !row.name.contains('+')) {
            let Ok(outcome) = &row.outcome else { continue };
            for line in outcome.lines.iter().filter(|line| !line.failover_us.is_empty()) {
                let mut times = line.failover_us.clone();
                times.sort_unstable();
                let (median, last) = (times[times.len() / 2], times[times.len() - 1]);
                let (name, target) = (row.about.join("; "), broker(line.target));
                let _ = writeln!(
                    text,
                    "| {name} | {target} | {} | {} | {} |",
                    times.len(),
                    ms(Some(median)),
                    ms(Some(last))
                );
            }
        }
        text
    }

    /// `docs/fault-matrix.md`.
    pub(crate) fn page(&self, arguments: &Arguments) -> String {
        let mut text = format!(
            "<!-- Written by `./dev chaos --seconds {} --seed {}`. -->\n{INTRODUCTION}",
            arguments.duration.as_secs(),
            arguments.seed
        );
        for (name, seed) in self.unclean() {
            let _ = writeln!(
                text,
                "**Not clean: `{name}`** (`./dev chaos --seed {seed} --fault {name}`)\n"
            );
        }
        text.push_str(HEADING);
        for row in self.rows.iter().filter(|row| !row.name.contains('+')) {
            cells(&mut text, row);
        }
        let pairs: Vec<&Row> = self.rows.iter().filter(|row| row.name.contains('+')).collect();
        if !pairs.is_empty() {
            text.push_str("\n## Two at once\n\nDrawn by the seed.\n\n");
            text.push_str(HEADING);
            pairs.iter().for_each(|row| cells(&mut text, row));
        }
        text.push_str("\n## Take-over\n\nFrom the last message of the old leader to the first of the new one, as a consumer sees it, with the lease as by default (`ttl = \"5s\"`, `standby_interval = \"250ms\"`). Measured with a release build of the relay under the hostile writer, on the machine that ran this; no test asserts it.\n");
        text.push_str(&self.failovers());
        if !self.controls.is_empty() {
            text.push_str(CONTROLS);
            for (mistake, caught) in &self.controls {
                let _ = writeln!(text, "| {} | {} | {caught} |", mistake.about(), mistake.class());
            }
        }
        text
    }
}

fn cells(text: &mut String, row: &Row) {
    let about = row.about.join(" — and ");
    let outcome = match &row.outcome {
        Ok(outcome) => outcome,
        Err(reason) => {
            let _ = writeln!(text, "| `{}` {about} | | not run: {reason} | | | | | | |", row.name);
            return;
        }
    };
    for problem in &outcome.problems {
        let _ = writeln!(text, "| `{}` | | **{problem}** | | | | | | |", row.name);
    }
    for line in &outcome.lines {
        let Line { report, .. } = line;
        let (same, all) = (report.identical, report.duplicates);
        let mut differ =
            if same == all { String::new() } else { format!(" ({} differ)", all - same) };
        if report.unsaid > 0 {
            let bold = if line.fenced { "**" } else { "" };
            let _ = write!(differ, ", {bold}{} unsaid{bold}", report.unsaid);
        }
        let _ = writeln!(
            text,
            "| `{}` {about} | {} | {} | {} | {} | {} | {} | {all} of {}{differ} | {} |",
            row.name,
            broker(line.target),
            report.committed,
            line.lost,
            report.phantom.len(),
            reordered(line),
            if line.blamed == 0 {
                line.dead.to_string()
            } else {
                format!("**{}**", line.dead + line.blamed)
            },
            line.duplicates_max,
            ms(line.recovery_us),
        );
    }
}

fn reordered(line: &Line) -> String {
    match line.excused {
        0 => line.report.reordered.len().to_string(),
        excused => format!("({excused})"),
    }
}

fn broker(target: &str) -> &str {
    if target == "amqp" { "RabbitMQ" } else { "Kafka" }
}

fn ms(us: Option<i64>) -> String {
    us.map_or("–".to_owned(), |us| format!("{} ms", us / 1000))
}

const INTRODUCTION: &str = "\
# Fault matrix

One cell is one fault: a database, a queue and a topic of its own, a hostile writer (concurrent
transactions, roll-backs, savepoints, COPY, late commits, odd content), a relay and a standby of a
release build, and independent consumers whose deliveries are compared with what was committed.
Lost, phantom and out of order must be 0 in every cell, every duplicate must be the same message with
the same bytes, and there must be no more of them than the limit: 1000 rows (`prefetch_rows_max` of
these runs) for each time a relay connected again, and everything after a `ledger rebuild`.

- *dead*: messages that no broker could take; they stand in `outbox.dead` with a reason.
- *back after*: from the mend to the first new message; where nothing had to be mended, the longest
  silence.
- *unsaid*: duplicates without `x-outbox-resent`: what a predecessor sends that goes on after its
  successor began looks like that. None where there is a fence (RabbitMQ: by default; Kafka: `fence = \"transaction\"`); and after a `ledger rebuild`, when nobody
  knows what had been sent.
- Numbers in parentheses are I3's named exception: a broker refused single messages (nack, returned,
  no such topic), and those in flight behind them passed. `queue-rejects-strict` is the same with
  `order = \"strict\"`, where there is no such exception.

Left out, because no relay could do better: a writer with `synchronous_commit = off` in a crash of the
server (a message whose change was undone), and what a broker had confirmed and lost with a queue or
topic that somebody deleted (these are deleted empty here).

## One at a time

";

const HEADING: &str = "\
| fault | broker | committed | lost | phantom | out of order | dead | duplicates | back after |
|---|---|--:|--:|--:|--:|--:|--:|--:|
";

const CONTROLS: &str = "
## Controls

Relays that are wrong on purpose, under the same checker.

| mistake | has to be found as | found |
|---|---|---|
";
