//! A consumer process of the proof: `examples/payments` with an end at every place where an end hurts,
//! or with a mistake.

mod control;
mod crash;

use std::process::ExitCode;

use clap::Parser;
use outbox_inbox::{Message, Outcome};
use tokio_postgres::Transaction;

use crate::example::arguments::{Arguments, Broker};
use crate::example::payments::{Payments, Processed, settled};
use crate::example::{kafka, rabbitmq, stop};
use crate::support::proof::control::Mistake;
use crate::support::proof::{CONTROL_VARIABLE, CrashPoint};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    arguments: Arguments,
}

pub(crate) async fn run() -> ExitCode {
    let level = tracing::Level::WARN;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).init();
    let Arguments { settings, broker } = Cli::parse_from(std::env::args().skip(1)).arguments;
    let mistake = std::env::var(CONTROL_VARIABLE).ok().map(|name| name.parse());
    let mistake: Option<Mistake> = mistake.transpose().expect("a control is named");
    let payments = Payments::new(&settings).expect("the proof configures what it starts");
    let stop = stop::on_signal().expect("signals can be waited for");
    let deliver = async |message: &Message<'_>| {
        let processed = match mistake {
            None => process(&payments, message).await,
            Some(mistake) => control::process(mistake, &payments, message).await,
        };
        // Read by whoever started this.
        println!("{}", word(&processed));
        if matches!(processed, Ok(Outcome::Done { .. })) {
            crash::point(CrashPoint::BeforeAck);
        }
        settled(processed).await
    };
    match broker {
        Broker::Rabbitmq(source) => {
            rabbitmq::consume(&source, settings.concurrency, &stop, deliver).await;
        }
        Broker::Kafka(source) => {
            kafka::consume(&source, &stop, deliver).await.expect("Kafka can be subscribed to");
        }
    }
    ExitCode::SUCCESS
}

/// As [`Payments`] does it, with an end after the handler.
async fn process(payments: &Payments, message: &Message<'_>) -> Processed {
    let mut client = payments.pool.get().await?;
    let handler = async |transaction: &Transaction<'_>| {
        payments.pay(transaction, message).await?;
        crash::point(CrashPoint::BeforeCommit);
        Ok(())
    };
    Ok(payments.inbox.process(&mut client, message, handler).await?)
}

fn word(processed: &Processed) -> &'static str {
    match processed {
        Ok(Outcome::Done { .. }) => "done",
        Ok(Outcome::DuplicateIgnored { .. } | Outcome::StaleIgnored) => "duplicate",
        Ok(Outcome::Retry { .. }) => "retry",
        Ok(Outcome::Parked { .. }) => "parked",
        Err(_) => "back",
    }
}
