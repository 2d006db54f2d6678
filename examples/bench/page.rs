//! `docs/performance.md`: written from the JSON files of a run, which are kept beside it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::section::{Name, Outcome};

mod goal;

/// The page, and the folder of what it is made of.
const PAGE: &str = "docs/performance.md";
const FOLDER: &str = "docs/performance";

/// Writes the page; sections that were not measured again keep what the last page had.
///
/// # Errors
/// A file that cannot be read or written.
pub(crate) fn write(measured: &Path) -> io::Result<()> {
    fs::create_dir_all(FOLDER)?;
    let mut outcomes = Vec::new();
    for name in Name::ALL {
        if let Some(outcome) = read(measured, name)?.or(read(Path::new(FOLDER), name)?) {
            outcome.save(Path::new(FOLDER))?;
            outcomes.push(outcome);
        }
    }
    for plot in outcomes.iter().flat_map(|outcome| &outcome.figures.plots) {
        fs::write(Path::new(FOLDER).join(&plot.name).with_extension("svg"), plot.svg())?;
    }
    fs::write(PAGE, text(&outcomes))?;
    println!("{PAGE}");
    Ok(())
}

fn read(folder: &Path, name: Name) -> io::Result<Option<Outcome>> {
    match fs::read_to_string(name.file(folder)) {
        Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(outcomes: &[Outcome]) -> String {
    let mut text = INTRODUCTION.to_owned();
    text += &goal::table(outcomes);
    let Some(first) = outcomes.first() else { return text };
    // Writing to a String does not fail.
    let _ = write!(text, "\n## The machine\n\n{}", machine(first));
    for outcome in outcomes {
        text += &section(outcome);
        if !outcome.machine.is_like(&first.machine) {
            text += &machine(outcome);
        }
    }
    text
}

fn machine(outcome: &Outcome) -> String {
    outcome.machine.describe().lines().map(|line| format!("- {line}\n")).collect()
}

fn section(outcome: &Outcome) -> String {
    let figures = &outcome.figures;
    let mut text = format!("\n## {}\n", outcome.section.title());
    for plot in &figures.plots {
        let _ = write!(text, "\n![{}](performance/{}.svg)\n", plot.title, plot.name);
    }
    for table in &figures.tables {
        let _ = write!(text, "\n{}", table.text());
    }
    text.push('\n');
    for note in &figures.notes {
        let _ = writeln!(text, "- {note}");
    }
    let _ = writeln!(text, "- {}", how(outcome));
    text
}

/// How this section was measured.
fn how(outcome: &Outcome) -> String {
    let runs = if outcome.runs == 1 { "one run".into() } else { format!("{} runs", outcome.runs) };
    let mut text = format!(
        "Measured on {}: {runs}, size {}, {:.0} s, load average {:.1} before it.",
        outcome.at.split('T').next().unwrap_or_default(),
        outcome.scale.word(),
        outcome.seconds,
        outcome.machine.load
    );
    if outcome.changes.is_empty() {
        text += " The relay's settings are its defaults.";
    } else {
        let changes = outcome
            .changes
            .iter()
            .map(|(section, key, value)| format!("`{section}.{key} = {value}`"));
        let _ = write!(text, " The relay's settings: {}.", changes.collect::<Vec<_>>().join(", "));
    }
    text
}

const INTRODUCTION: &str = "\
<!-- Written by `./dev bench report` from the files in docs/performance: edit what writes it. -->
# Performance

`./dev bench` measures everything here but the peers, `./dev bench peers` measures those, and
`./dev bench report` writes this page from what they found. Services, relay, writers and consumers share
the cores of one machine, so an absolute figure says what that machine can do: compare within this page,
or with a run of your own.

A figure is *least–median–most* of the runs, or the one value. A CPU figure \"s/100k\" is CPU seconds,
user and system, for 100,000 rows; 0.4 are 4 µs a row. [profile.md](profile.md) has where the time goes,
and why a target below is not reached.
";
