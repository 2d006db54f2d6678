//! What `./dev proof` is asked for.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::proof::control::Mistake;

/// Fewer have no poison of both kinds among them, and no room for the faults.
const MESSAGES_MIN: usize = 200;

/// The command line.
pub(crate) struct Options {
    pub(crate) messages: usize,
    pub(crate) seed: u64,
    /// Only this: a consumer that does it wrong.
    pub(crate) control: Option<Mistake>,
}

const HELP: &str = "\
./dev proof [--messages N] [--seed S] [--control NAME]

  --messages N    so many PaymentRequested (20000)
  --seed S        of the faults and the poison; the clock by default
  --control NAME  only a consumer that does it wrong, which must fail:
                  check-then-insert, claim-committed-first, hash-of-payload";

impl Options {
    /// `None`: there was only something to be shown.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut options = Self { messages: 20_000, seed: now, control: None };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value\n\n{HELP}"));
            match word.as_str() {
                "--messages" => options.messages = number(&value()?)?,
                "--seed" => options.seed = number(&value()?)?,
                "--control" => options.control = Some(value()?.parse()?),
                "--help" | "-h" => {
                    println!("{HELP}");
                    return Ok(None);
                }
                _ => return Err(format!("unknown option {word}\n\n{HELP}")),
            }
        }
        if options.messages < MESSAGES_MIN {
            return Err(format!("--messages {}: at least {MESSAGES_MIN}", options.messages));
        }
        Ok(Some(options))
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("{text} is no whole number"))
}
