//! The receivers' half of a transactional outbox: doing it twice has the effect of doing it once.
//!
//! A message is delivered at least once, a client repeats its request. What makes the second time
//! harmless is one row, claimed in the transaction of the effect:
//!
//! ```text
//!  delivery ──► BEGIN ─► claim (consumer, message id) ─► handler ─► follow-up outbox rows ─► COMMIT ──► settle
//!                          │ duplicate | mismatch | stale: nothing is done again
//! ```
//!
//! Claim and effect commit together or not at all, so a consumer may be killed at any moment.
//!
//! An operation is *idempotent* if doing it again, under the same key, leaves the state that doing it once
//! has left. That is what this says:
//!
//! ```
//! use outbox_inbox::{Inbox, Message, Parts, Settle};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let url = std::env::var("OUTBOX_TEST_PG_URL").expect("the tests' services are up: ./dev test");
//! # let (mut client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
//! # tokio::spawn(connection);
//! # let schema: outbox_inbox::schema::Schema = format!("doc_{}", uuid::Uuid::now_v7().simple()).parse()?;
//! # outbox_inbox::schema::migrate(&mut client, &schema, outbox_inbox::schema::DEFAULT_LOCK_TIMEOUT).await?;
//! # client.batch_execute("CREATE TEMPORARY TABLE payment (amount int)").await?;
//! let inbox = Inbox::builder("billing")
//! #   .schema(schema)
//!     .build()?;
//! let requested = Message::read(Parts { message_id: Some("payment-7"), ..Parts::default() });
//!
//! for _ in 0..3 {
//!     let outcome = inbox.process(&mut client, &requested, async |transaction| {
//!         transaction.execute("INSERT INTO payment (amount) VALUES (1250)", &[]).await?;
//!         Ok(())
//!     });
//!     // After the commit, and only then, the broker is told. A duplicate is done with, too.
//!     assert_eq!(outcome.await?.settle(), Settle::Ack);
//! }
//! let payments: i64 = client.query_one("SELECT count(*) FROM payment", &[]).await?.get(0);
//! assert_eq!(payments, 1);
//! # Ok(())
//! # }
//! ```
//!
//! - [`Inbox`] processes a [`Message`] in a transaction of tokio-postgres (module [`sqlx`] in one of sqlx),
//!   and says in an [`Outcome`] what became of it and how its delivery is settled.
//! - [`lapin`] and [`rdkafka`] read deliveries of these clients, and settle them.
//! - [`maintenance`] keeps the tables ready and small, [`schema`] installs them.

mod backoff;
mod batch;
mod builder;
mod cause;
mod claim;
pub mod connection;
mod error;
mod fingerprint;
mod handler;
#[cfg(feature = "http")]
pub mod http;
mod id;
pub mod idempotency;
mod keep;
pub mod maintenance;
mod message;
mod outcome;
mod passthrough;
mod process;
mod quota;
mod record;
mod replay;
pub mod schema;
mod telemetry;
mod verdict;

#[cfg(feature = "lapin")]
pub mod lapin;
#[cfg(feature = "rdkafka")]
pub mod rdkafka;
#[cfg(feature = "sqlx")]
pub mod sqlx;

pub use builder::{
    BuildError, Builder, DEFAULT_ATTEMPTS_MAX, DEFAULT_BACKOFF_MAX, DEFAULT_BACKOFF_MIN,
    DEFAULT_CLAIM_WAIT, DEFAULT_DUPLICATE_LOGS_PER_SECOND_MAX, DEFAULT_HANDLER_TIMEOUT,
    DEFAULT_KEEP_BYTES_MAX, Inbox, LogKeys, OnStale,
};
pub use cause::Cause;
pub use error::InboxError;
pub use handler::HandlerError;
pub use id::{ID_BYTES_MAX, MessageId};
pub use message::{Header, Message, Parts};
pub use outcome::{Outcome, Park, Settle};
pub use telemetry::metric;
pub use verdict::{UnknownVerdict, Verdict};
