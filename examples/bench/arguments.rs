//! What `./dev bench` is asked for.

use std::path::PathBuf;

use crate::peer::poller::{self, Mark};
use crate::scale::Scale;
use crate::section::Name;

/// The command line.
pub(crate) struct Arguments {
    pub(crate) command: Command,
    pub(crate) scale: Scale,
    /// Of each measurement.
    pub(crate) runs: usize,
    /// Keys of the relay's configuration that are not as by default: section, key, TOML value.
    pub(crate) changes: Vec<(String, String, String)>,
    /// The folder of the JSON files.
    pub(crate) output: PathBuf,
}

/// What is to be done.
pub(crate) enum Command {
    Measure(Vec<Name>),
    /// Write the page.
    Report,
    /// To be a peer: the database, the brokers, the topic.
    Poll {
        url: String,
        brokers: String,
        topic: String,
        mark: Mark,
    },
}

const HELP: &str = "\
./dev bench [--quick|--full] [--only NAME[,NAME]...] [--runs N] [--set SECTION.KEY=VALUE]... [--output DIR]
./dev bench peers [OPTION...]      Debezium, a poller as written by hand, and ours
./dev bench inbox [OPTION...]      what the receivers' half costs a database
./dev bench report [--output DIR]  docs/performance.md from what was measured

  --quick       fewer rows and one run: is it about as fast as yesterday? (below 5 minutes)
  --full        as many rows as the targets speak of, 10 million for the slope (hours)
  --only        these sections: ";

const OPTIONS: &str = "
  --runs N      of each measurement (3; with --quick 1)
  --set         a setting of the relay: source.KEY, kafka.KEY or amqp.KEY, the value as in TOML
  --output DIR  of the JSON files, one a section (target/bench)";

impl Arguments {
    /// With nothing else said.
    fn of(command: Command) -> Self {
        let (scale, output) = (Scale::Usual, "target/bench".into());
        Self { command, scale, runs: scale.runs(), changes: Vec::new(), output }
    }

    /// `None`: there was only something to be shown.
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut words = words.peekable();
        if words.next_if(|word| word == poller::WORD).is_some() {
            return poll(words).map(Some);
        }
        let (mut sections, mut runs, mut scale, mut report) = (None, None, Scale::Usual, false);
        let (mut changes, mut output) = (Vec::new(), PathBuf::from("target/bench"));
        while let Some(word) = words.next() {
            let mut value =
                || words.next().ok_or_else(|| format!("{word} needs a value\n\n{}", help()));
            match word.as_str() {
                "peers" => sections = Some(vec![Name::Peers]),
                "inbox" => sections = Some(vec![Name::Inbox]),
                "report" => report = true,
                "--quick" => scale = Scale::Quick,
                "--full" => scale = Scale::Full,
                "--only" => sections = Some(names(&value()?)?),
                "--runs" => runs = Some(number(&value()?)?),
                "--set" => changes.push(change(&value()?)?),
                "--output" => output = value()?.into(),
                "--help" | "-h" => {
                    println!("{}", help());
                    return Ok(None);
                }
                _ => return Err(format!("unknown word {word}\n\n{}", help())),
            }
        }
        let sections = sections.unwrap_or_else(Name::ours);
        let runs = runs.unwrap_or(scale.runs());
        let command = if report { Command::Report } else { Command::Measure(sections) };
        Ok(Some(Self { command, scale, runs, changes, output }))
    }
}

/// The bench starts itself like this.
fn poll(words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let words: Vec<String> = words.collect();
    let Ok([url, brokers, topic, mark]) = <[String; 4]>::try_from(words) else {
        return Err("the poller needs a database, brokers, a topic and a mark".into());
    };
    let mark = Mark::from_word(&mark).ok_or(format!("no mark {mark}"))?;
    Ok(Arguments::of(Command::Poll { url, brokers, topic, mark }))
}

fn help() -> String {
    let words: Vec<_> = Name::ALL.iter().map(|name| name.word()).collect();
    format!("{HELP}{}{OPTIONS}", words.join(", "))
}

fn names(text: &str) -> Result<Vec<Name>, String> {
    let named =
        |word: &str| Name::from_word(word).ok_or(format!("no section {word}\n\n{}", help()));
    text.split(',').map(named).collect()
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or(format!("{text} is no number of runs"))
}

fn change(text: &str) -> Result<(String, String, String), String> {
    let parts = text.split_once('=').and_then(|(key, value)| Some((key.split_once('.')?, value)));
    match parts {
        Some(((section @ ("source" | "kafka" | "amqp"), key), value)) => {
            Ok((section.into(), key.into(), value.into()))
        }
        _ => Err(format!("{text} is not source.KEY=VALUE, kafka.KEY=VALUE or amqp.KEY=VALUE")),
    }
}
