//! Doing it twice has the effect of doing it once: `PaymentRequested` from an outbox, by the relay, over
//! RabbitMQ and Kafka, to four processes of `examples/payments`, while everything dies that can.
//! `./dev proof` starts the services and this.
//!
//! It is an example of the relay and not of `outbox-inbox`: it needs both, and the tests' support.

#![allow(
    clippy::disallowed_methods,
    reason = "it reads rows of its own making; a test of docs looks for the other methods"
)]

mod consumer;
mod options;
mod report;

use std::process::ExitCode;

use options::Options;
use support::proof::control::{self, Mistake};
use support::proof::{self, Plan};

// The tests use the rest of it. An inline module, so that it finds its own files beside it.
#[allow(dead_code, unused_imports)]
#[path = "../../tests"]
mod tests {
    pub(crate) mod support;
}
use tests::support;

/// What a user would copy, as it is.
#[allow(dead_code, reason = "its own `main` calls the rest")]
#[path = "../payments"]
mod example {
    pub(crate) mod arguments;
    pub(crate) mod kafka;
    pub(crate) mod payment;
    pub(crate) mod payments;
    pub(crate) mod provider;
    pub(crate) mod rabbitmq;
    pub(crate) mod stop;
}

#[tokio::main]
async fn main() -> ExitCode {
    // Its consumers are processes of this program.
    if std::env::args().nth(1).as_deref() == Some(proof::CONSUMER) {
        return consumer::run().await;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if let Some(mistake) = options.control {
        let verdict = control::run(mistake, options.seed).await;
        report::print(&verdict);
        // As if it were the consumer that is to be proved.
        return if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut proved = true;
    for mistake in Mistake::ALL {
        let caught = mistake.is_caught(&control::run(mistake, options.seed).await);
        report::control(mistake, caught);
        proved &= caught;
    }
    println!("seed {}", options.seed);
    let verdict = proof::run(&Plan::whole(options.messages, options.seed)).await;
    report::print(&verdict);
    proved &= verdict.holds();
    if proved { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
