//! What the relay can do on this machine, beside the limits that it stands against and the peers that
//! do the same job. `./dev bench` builds the programs, and starts this.
//!
//! ```text
//!  rig (PostgreSQL, RabbitMQ, Kafka) ── backlog ──► relay ──► meter ──► curve ─┐
//!                                                     │                        ▼
//!                                                   usage ──────────────►  section ──► JSON ──► page
//! ```
//! One measurement at a time; nothing here decides whether a figure is good.

#![allow(
    clippy::disallowed_methods,
    reason = "it reads rows of its own making; a test of docs looks for the other methods"
)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use arguments::{Arguments, Command};
use machine::Machine;
use rig::Rig;
use section::{Name, Outcome};
use tests::support;

mod arguments;
mod backlog;
mod census;
mod crash;
mod curve;
mod drain;
mod figure;
mod inbox;
mod limit;
mod machine;
mod meter;
mod page;
mod peer;
mod pgbench;
mod queue;
mod relay;
mod rig;
mod scale;
mod section;
mod slope;
mod steady;
mod usage;
mod writer_cost;

// The tests use the rest of it. An inline module, so that it finds its own files.
#[allow(dead_code, unused_imports)]
#[path = "../../tests"]
mod tests {
    pub(crate) mod support;
}

/// A section that takes longer has hung; the others are still worth their time.
const SECTION_MAX: Duration = Duration::from_secs(2 * 3600);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match &arguments.command {
        Command::Measure(sections) => measure(&arguments, sections).await,
        Command::Report => match page::write(&arguments.output) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cannot write the page: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Poll { url, brokers, topic, mark } => {
            peer::poller::run(url, brokers, topic, *mark).await
        }
    }
}

async fn measure(arguments: &Arguments, sections: &[Name]) -> ExitCode {
    println!("starting PostgreSQL, RabbitMQ and Kafka");
    let rig = Rig::start().await;
    limit::warm_up(&rig).await;
    let machine = Machine::look(&rig).await;
    println!("{}", machine.describe());
    let mut failed = Vec::new();
    for &name in sections {
        println!("\n═══ {} ═══", name.title());
        let begun = Instant::now();
        let run = std::panic::AssertUnwindSafe(section::run(name, &rig, arguments)).catch_unwind();
        let figures = match tokio::time::timeout(SECTION_MAX, run).await {
            Ok(Ok(figures)) => figures,
            Ok(Err(_)) => {
                failed.push(name);
                continue;
            }
            Err(_) => {
                eprintln!("it took more than {SECTION_MAX:?}");
                failed.push(name);
                continue;
            }
        };
        let outcome = Outcome::new(name, arguments, machine.clone(), figures, begun.elapsed());
        outcome.print();
        match outcome.save(&arguments.output) {
            Ok(file) => println!("in {} ({:.0} s)", file.display(), outcome.seconds),
            Err(error) => {
                eprintln!("cannot write to {}: {error}", arguments.output.display());
                return ExitCode::FAILURE;
            }
        }
    }
    for name in &failed {
        eprintln!("not measured: {}", name.word());
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
