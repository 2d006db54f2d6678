//! What `./dev chaos` is asked for.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::chaos::Fault;

/// The command line.
pub(crate) struct Arguments {
    /// Cells with two faults are begun until then; those with one all run.
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
    /// Only these cells.
    pub(crate) faults: Vec<Vec<&'static Fault>>,
    pub(crate) output: PathBuf,
}

const HELP: &str = "\
./dev chaos [--seconds N] [--seed S] [--fault NAME[+NAME]]... [--output FILE] [--list]

  --seconds N   after every fault alone, two at once until so many seconds have passed (600)
  --seed S      of the writer and of what is combined; the clock by default
  --fault NAME  only this cell; one+other for two at once
  --output FILE the matrix, in Markdown (target/fault-matrix.md)
  --list        the names of the faults";

impl Arguments {
    /// `None`: there was only something to be shown.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut arguments = Self {
            duration: Duration::from_secs(600),
            seed: now,
            faults: Vec::new(),
            output: "target/fault-matrix.md".into(),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value\n\n{HELP}"));
            match word.as_str() {
                "--seconds" => arguments.duration = Duration::from_secs(number(&value()?)?),
                "--seed" => arguments.seed = number(&value()?)?,
                "--fault" => arguments.faults.push(faults(&value()?)?),
                "--output" => arguments.output = value()?.into(),
                "--list" => {
                    for fault in Fault::all() {
                        println!("{:<24} {}", fault.name, fault.about);
                    }
                    return Ok(None);
                }
                "--help" | "-h" => {
                    println!("{HELP}");
                    return Ok(None);
                }
                _ => return Err(format!("unknown option {word}\n\n{HELP}")),
            }
        }
        Ok(Some(arguments))
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no whole number"))
}

fn faults(text: &str) -> Result<Vec<&'static Fault>, String> {
    let named = |name| Fault::named(name).ok_or(format!("no fault {name}: see --list"));
    text.split('+').map(named).collect()
}
