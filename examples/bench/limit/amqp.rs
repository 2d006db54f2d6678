//! A bare lapin publisher with confirms, at a window, on one channel or several of one connection.

use std::collections::VecDeque;
use std::time::Instant;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::task::JoinSet;

use super::COLUMNS;
use crate::drain::USUAL_PAYLOAD;
use crate::queue::{Kind, Queue, connect, short};
use crate::rig::Rig;
use crate::usage::Process;

pub(super) async fn measure(
    rig: &Rig,
    rows: u64,
    kind: Kind,
    window: usize,
    channels: usize,
) -> [f64; COLUMNS.len()] {
    let queue = Queue::create(rig.rabbitmq.url(), kind).await;
    let (me, broker) = (Process(std::process::id()), rig.rabbitmq_process());
    let (own, theirs, begun) = (me.cpu(), broker.cpu(), Instant::now());
    if let Err(error) = publish(&queue, rows, window, channels).await {
        panic!("cannot publish to {}: {error}", queue.name);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let line = [
        rows as f64 / seconds,
        (me.cpu() - own).per_100k(rows),
        (broker.cpu() - theirs).per_100k(rows),
    ];
    queue.delete().await;
    line
}

/// What the relay gives every message besides its id: the broker reads and stores it as well.
const HEADERS: [(&str, &str); 4] = [
    ("x-outbox-key", "key-4711"),
    ("x-outbox-id", "4711"),
    ("x-outbox-topic", "order.placed"),
    ("x-outbox-created-at", "2026-01-31T12:00:00.000000Z"),
];

/// Each channel has its share of rows and window, and a task of its own.
async fn publish(queue: &Queue, rows: u64, window: usize, channels: usize) -> lapin::Result<()> {
    let connection = connect(&queue.url).await;
    let mut publishers = JoinSet::new();
    for _ in 0..channels {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (name, rows) = (queue.name.clone(), rows / channels as u64);
        publishers.spawn(publish_on(channel, name, rows, window / channels));
    }
    // Dropped, a channel would close by itself while the connection does.
    let mut open = Vec::with_capacity(channels);
    while let Some(published) = publishers.join_next().await {
        open.push(published.expect("a publisher does not panic")?);
    }
    connection.close(200, short("done")).await
}

/// Persistent and mandatory, with id and headers, as the relay publishes.
async fn publish_on(
    channel: Channel,
    queue: String,
    rows: u64,
    window: usize,
) -> lapin::Result<Channel> {
    let id = short(&uuid::Uuid::now_v7().to_string());
    let mut headers = FieldTable::default();
    for (name, value) in HEADERS {
        headers.insert(short(name), AMQPValue::LongString(value.into()));
    }
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(id)
        .with_timestamp(1_700_000_000)
        .with_headers(headers);
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let payload = vec![b'x'; USUAL_PAYLOAD];
    let (exchange, name) = (short(""), short(&queue));
    let mut unconfirmed = VecDeque::with_capacity(window);
    for _ in 0..rows {
        // In steps of a tenth, or the two tasks would wake each other for every message.
        if unconfirmed.len() >= window {
            for oldest in unconfirmed.drain(..window / 10) {
                confirmed(oldest).await?;
            }
        }
        let confirm = channel
            .basic_publish(exchange.clone(), name.clone(), options, &payload, properties.clone())
            .await?;
        unconfirmed.push_back(confirm);
    }
    for confirm in unconfirmed {
        confirmed(confirm).await?;
    }
    Ok(channel)
}

async fn confirmed(
    confirm: impl Future<Output = lapin::Result<Confirmation>>,
) -> lapin::Result<()> {
    let confirmation = confirm.await?;
    assert!(matches!(confirmation, Confirmation::Ack(None)), "not confirmed: {confirmation:?}");
    Ok(())
}
