//! What the outside sees of a message: metrics, records of the log, spans.

mod count;
mod record;

use std::borrow::Cow;

use outbox_inbox::{Builder, HandlerError, Inbox, Message, Parts};
use tokio_postgres::Transaction;

use crate::process::PAYMENTS;
use crate::support::database::Database;
use crate::support::session::Session;
use crate::support::{id, meter};

/// Neither this nor the detail of an error that holds it may be seen anywhere.
const PAYLOAD: &str = "4000 0012 3456 7899";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

struct Stage {
    session: Session,
    inbox: Inbox,
}

impl Stage {
    /// With a consumer's name that no other test has, for its series.
    async fn new(set: impl FnOnce(Builder) -> Builder) -> Self {
        meter::install();
        let session = Database::create().await.connect().await;
        session.run(PAYMENTS).await;
        let inbox = set(Inbox::builder(&format!("billing-{}", id::new()))).build().unwrap();
        Self { session, inbox }
    }

    /// Processes a message with a handler that pays.
    async fn pay(&mut self, message: &Message<'_>) {
        self.inbox.process(&mut self.session, message, pay).await.unwrap();
    }

    /// Processes a message with a handler that cannot.
    async fn fail(&mut self, message: &Message<'_>, error: fn(&'static str) -> HandlerError) {
        let fail = async |_: &Transaction<'_>| Err::<(), _>(error("no such currency"));
        self.inbox.process(&mut self.session, message, fail).await.unwrap();
    }

    fn counted(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        meter::counted(name, &[labels, &[("consumer", self.inbox.consumer())]].concat())
    }
}

async fn pay(transaction: &Transaction<'_>) -> Result<(), HandlerError> {
    tracing::info!("paying");
    transaction.execute("INSERT INTO payment VALUES ($1, 10)", &[&PAYLOAD]).await?;
    Ok(())
}

/// A delivery with headers, as a broker that has delivered it before would hand it over, or not.
fn delivery<'a>(id: &'a str, headers: &[(&'a str, &'a str)], redelivered: bool) -> Message<'a> {
    let owned = |&(name, value): &(&'a str, &'a str)| {
        (Cow::Borrowed(name), Some(Cow::Borrowed(value.as_bytes())))
    };
    Message::read(Parts {
        message_id: Some(id),
        correlation_id: Some("order-7"),
        payload: Some(PAYLOAD.as_bytes()),
        headers: headers.iter().map(owned).collect(),
        destination: "payments",
        redelivered,
        ..Parts::default()
    })
}

fn message(id: &str) -> Message<'_> {
    delivery(id, &[], false)
}
