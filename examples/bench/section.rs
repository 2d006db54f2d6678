//! The sections of a run: their names, and what is kept of one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::arguments::Arguments;
use crate::figure::Figures;
use crate::machine::Machine;
use crate::rig::Rig;
use crate::scale::Scale;
use crate::{crash, drain, inbox, limit, peer, slope, steady, writer_cost};

/// A section, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Name {
    Limits,
    Drain,
    Steady,
    Writers,
    Crash,
    Slope,
    Peers,
    Inbox,
}

impl Name {
    /// In the order of the page.
    pub(crate) const ALL: [Self; 8] = [
        Self::Limits,
        Self::Drain,
        Self::Steady,
        Self::Writers,
        Self::Crash,
        Self::Slope,
        Self::Peers,
        Self::Inbox,
    ];

    /// Without the peers and the receivers' half, which `./dev bench peers` and `./dev bench inbox` measure.
    pub(crate) fn ours() -> Vec<Self> {
        let own_command = |name: &Self| matches!(name, Self::Peers | Self::Inbox);
        Self::ALL.into_iter().filter(|name| !own_command(name)).collect()
    }

    /// On the command line, and of the JSON file.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::Drain => "drain",
            Self::Steady => "steady",
            Self::Writers => "writers",
            Self::Crash => "crash",
            Self::Slope => "slope",
            Self::Peers => "peers",
            Self::Inbox => "inbox",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.word() == word)
    }

    /// Where a folder has what was found.
    pub(crate) fn file(self, folder: &Path) -> PathBuf {
        folder.join(self.word()).with_extension("json")
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Limits => "Raw limits",
            Self::Drain => "Draining a backlog",
            Self::Steady => "Latency under a steady load",
            Self::Writers => "What the writers feel",
            Self::Crash => "Duplicates after a crash",
            Self::Slope => "Along a long backlog",
            Self::Peers => "Side by side with peers",
            Self::Inbox => "The receivers' half",
        }
    }
}

/// Measures one section.
pub(crate) async fn run(name: Name, rig: &Rig, arguments: &Arguments) -> Figures {
    match name {
        Name::Limits => limit::section(rig, arguments).await,
        Name::Drain => drain::section(rig, arguments).await,
        Name::Steady => steady::section(rig, arguments).await,
        Name::Writers => writer_cost::section(rig, arguments).await,
        Name::Crash => crash::section(rig, arguments).await,
        Name::Slope => slope::section(rig, arguments).await,
        Name::Peers => peer::section(rig, arguments).await,
        Name::Inbox => inbox::section(rig, arguments).await,
    }
}

/// A section that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) section: Name,
    /// When it ended, RFC 3339.
    pub(crate) at: String,
    pub(crate) seconds: f64,
    pub(crate) scale: Scale,
    pub(crate) runs: usize,
    /// Of the relay, that are not as by default.
    pub(crate) changes: Vec<(String, String, String)>,
    pub(crate) machine: Machine,
    pub(crate) figures: Figures,
}

impl Outcome {
    pub(crate) fn new(
        section: Name,
        arguments: &Arguments,
        machine: Machine,
        figures: Figures,
        took: Duration,
    ) -> Self {
        Self {
            section,
            at: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            seconds: took.as_secs_f64(),
            scale: arguments.scale,
            runs: arguments.runs,
            changes: arguments.changes.clone(),
            machine,
            figures,
        }
    }

    /// The tables, for whoever watches.
    pub(crate) fn print(&self) {
        for table in &self.figures.tables {
            println!("\n{}", table.text());
        }
        for note in &self.figures.notes {
            println!("- {note}");
        }
    }

    /// Writes `FOLDER/SECTION.json`.
    pub(crate) fn save(&self, folder: &Path) -> std::io::Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        let file = self.section.file(folder);
        std::fs::write(&file, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(file)
    }
}
