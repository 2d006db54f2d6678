//! A consumer of `PaymentRequested` that charges and pays once, however often a message comes.
//!
//! ```text
//!  RabbitMQ ──┐            ┌──────────────── one transaction ────────────────┐
//!             ├─► message ─► claim ─► charge (a step) ─► payment ─► follow-up ─► COMMIT ──► settle
//!  Kafka ─────┘            └─────────────────────────────────────────────────┘
//! ```
//! Run as many as you like, at either broker: they have one name, so they are one consumer, and a message
//! that comes by both is done once. `payments.sql` beside this file is the table, `outbox-relay inbox init`
//! and `outbox-relay migrate` make the rest.
//!
//! ```text
//! export PAYMENTS_DATABASE_URL=postgres://payments:secret@localhost/payments
//! payments --provider http://localhost:8080 rabbitmq --url amqp://localhost/%2f --queue payments
//! payments --provider http://localhost:8080 kafka --brokers localhost:9092 --topic payments
//! ```
//! It is an example of `outbox-inbox`, not of the relay: a consumer knows nothing of whoever sends.

mod arguments;
mod kafka;
mod payment;
mod payments;
mod provider;
mod rabbitmq;
mod stop;

use std::error::Error;

use clap::Parser;

use arguments::{Arguments, Broker};
use payments::Payments;

#[derive(Parser)]
#[command(about = "Pays what PaymentRequested asks for, once")]
struct Cli {
    #[command(flatten)]
    arguments: Arguments,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let Arguments { settings, broker } = Cli::parse().arguments;
    let payments = Payments::new(&settings)?;
    let stop = stop::on_signal()?;
    let deliver = async |message: &outbox_inbox::Message<'_>| payments.deliver(message).await;
    match broker {
        Broker::Rabbitmq(source) => {
            rabbitmq::consume(&source, settings.concurrency, &stop, deliver).await;
        }
        Broker::Kafka(source) => kafka::consume(&source, &stop, deliver).await?,
    }
    Ok(())
}
