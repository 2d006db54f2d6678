//! Every fault under a hostile writer: one at a time, then two at once, until the time is over. The
//! result is a matrix of faults and brokers. `./dev chaos` starts this.

#![allow(
    clippy::disallowed_methods,
    reason = "it reads rows of its own making; a test of docs looks for the other methods"
)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use support::chaos::cell::Cell;
use support::chaos::control::{self, Mistake};
use support::chaos::fault::Scene;
use support::chaos::outcome::Outcome;
use support::chaos::{Arena, Fault};
use support::rng::Rng;

use arguments::Arguments;
use matrix::{Matrix, Row};

// The tests use the rest of it. An inline module, so that it finds its own files beside it.
#[allow(dead_code, unused_imports)]
#[path = "../tests"]
mod tests {
    pub(crate) mod support;
}
use tests::support;

#[path = "chaos/arguments.rs"]
mod arguments;
#[path = "chaos/matrix.rs"]
mod matrix;

/// So long an idle transaction is left, if the run lasts as long.
const OLD_MAX: Duration = Duration::from_secs(600);

/// A cell that takes longer has hung.
const CELL_MAX: Duration = Duration::from_secs(180);

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
    println!("seed {}", arguments.seed);
    let matrix = run(&arguments).await;
    if let Err(error) = std::fs::write(&arguments.output, matrix.page(&arguments)) {
        eprintln!("cannot write {}: {error}", arguments.output.display());
        return ExitCode::FAILURE;
    }
    println!("{}\nthe matrix is in {}", matrix.failovers(), arguments.output.display());
    let unclean = matrix.unclean();
    for (name, seed) in &unclean {
        println!("not clean: {name}; again: ./dev chaos --seed {seed} --fault {name}");
    }
    if unclean.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(arguments: &Arguments) -> Matrix {
    let begun = Instant::now();
    let mut rng = Rng::new(arguments.seed);
    let mut matrix = Matrix::default();
    println!("starting PostgreSQL, RabbitMQ and Kafka");
    let arena = Arena::start().await;
    for mistake in Mistake::ALL.iter().filter(|_| arguments.faults.is_empty()) {
        let caught = control::run(*mistake, arena.rabbitmq.url(), arena.postgres.url()).await;
        println!("control  {:<28} {caught}", mistake.name());
        matrix.controls.push((*mistake, caught));
    }
    let chosen: Vec<Vec<&Fault>> = match arguments.faults.as_slice() {
        [] => Fault::all().map(|fault| vec![fault]).collect(),
        faults => faults.to_vec(),
    };
    let (last, chosen): (Vec<_>, Vec<_>) =
        chosen.into_iter().partition(|faults| faults[0].scene == Scene::OldTransaction);
    if !last.is_empty() {
        arena.old_transaction().await;
    }
    for faults in &chosen {
        cell(&arena, faults, arguments.seed, &mut matrix).await;
    }
    let all: Vec<&Fault> = Fault::all().collect();
    while arguments.faults.is_empty() && begun.elapsed() < arguments.duration {
        let one = all[rng.below(all.len() as u64) as usize];
        let other = all[rng.below(all.len() as u64) as usize];
        if one.goes_with(other) {
            cell(&arena, &[one, other], rng.next(), &mut matrix).await;
        }
    }
    for faults in &last {
        arena.old_transaction().await.reach(arguments.duration.min(OLD_MAX)).await;
        cell(&arena, faults, arguments.seed, &mut matrix).await;
    }
    matrix
}

async fn cell(arena: &Arena, faults: &[&Fault], seed: u64, matrix: &mut Matrix) {
    let name = faults.iter().map(|fault| fault.name).collect::<Vec<_>>().join("+");
    let begun = Instant::now();
    let refused = faults.iter().find_map(|fault| fault.unavailable());
    let outcome = match refused {
        Some(reason) => Err(reason),
        None => {
            let run = std::panic::AssertUnwindSafe(Cell::run(arena, faults, seed)).catch_unwind();
            Ok(match tokio::time::timeout(CELL_MAX, run).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(panic)) => Outcome::failed(said(&*panic)),
                Err(_) => Outcome::failed(format!("it took more than {CELL_MAX:?}")),
            })
        }
    };
    let row = Row { name, about: faults.iter().map(|fault| fault.about).collect(), seed, outcome };
    println!("{} ({:.0} s)", row.line(), begun.elapsed().as_secs_f64());
    if let Ok(outcome) = &row.outcome
        && !outcome.is_clean()
    {
        println!("  NOT CLEAN, seed {seed}\n{}", outcome.describe());
        let log = std::env::temp_dir().join(format!("chaos-{}-{seed}.log", row.name));
        if std::fs::write(&log, &outcome.log).is_ok() {
            println!("  what the relays logged: {}", log.display());
        }
        arena.mend().await;
    }
    matrix.rows.push(row);
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
