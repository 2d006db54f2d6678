//! Deliveries of a RabbitMQ queue: many in hand at once, each settled by itself.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Connection, ConnectionProperties};
use outbox_inbox::{Message, Settle};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::arguments::Queue;

/// Before a broker that went away is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Consumes until it is told to stop, over as many connections as that takes.
pub(crate) async fn consume(
    source: &Queue,
    concurrency: u16,
    stop: &CancellationToken,
    deliver: impl AsyncFn(&Message<'_>) -> Settle,
) {
    while !stop.is_cancelled() {
        if let Err(error) = consume_connection(source, concurrency, stop, &deliver).await {
            warn!(error = &error as &dyn std::error::Error, "RabbitMQ is gone");
            let _ = stop.run_until_cancelled(tokio::time::sleep(RECONNECT_PAUSE)).await;
        }
    }
}

async fn consume_connection(
    source: &Queue,
    concurrency: u16,
    stop: &CancellationToken,
    deliver: &impl AsyncFn(&Message<'_>) -> Settle,
) -> lapin::Result<()> {
    let connection = Connection::connect(&source.url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    // As many as are in hand: what is fetched beyond that waits here while other instances are idle, and
    // the death of this one counts against it.
    channel.basic_qos(concurrency, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let queue = short(&source.queue);
    let deliveries =
        channel.basic_consume(queue, short(""), options, FieldTable::default()).await?;
    let stopped = Box::pin(stop.cancelled());
    // An error ends the others too: they could not be settled, are rolled back, and come again.
    deliveries
        .take_until(stopped)
        .try_for_each_concurrent(usize::from(concurrency), async |delivery| {
            let message = outbox_inbox::lapin::message(&delivery, &source.queue);
            let settle = deliver(&message).await;
            outbox_inbox::lapin::settle(&delivery, settle).await
        })
        .await?;
    connection.close(200, short("done")).await
}

/// Names are short, and configured: nothing of a message's comes here.
fn short(text: &str) -> ShortString {
    ShortString::try_new(text).expect("a queue's name has at most 255 bytes")
}
