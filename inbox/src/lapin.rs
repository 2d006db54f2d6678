//! RabbitMQ, by the client `lapin`: reading a delivery, and settling it.

use std::borrow::Cow;

use ::lapin::message::Delivery;
use ::lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use ::lapin::types::{AMQPValue, ShortString};

use crate::message::{Header, Message, Parts};
use crate::outcome::Settle;

/// The delivery as the inbox reads it; `queue` is where it was consumed.
#[must_use]
pub fn message<'a>(delivery: &'a Delivery, queue: &'a str) -> Message<'a> {
    let properties = &delivery.properties;
    let headers = properties.headers().as_ref().map(|table| {
        table.inner().iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), bytes(value)))
    });
    Message::read(Parts {
        message_id: text(properties.message_id()),
        kind: text(properties.kind()),
        correlation_id: text(properties.correlation_id()),
        key: None,
        payload: Some(&delivery.data),
        headers: headers.into_iter().flatten().collect::<Vec<Header<'a>>>(),
        destination: queue,
        redelivered: delivery.redelivered,
    })
}

/// Tells the broker what became of a delivery. Deliveries are settled one by one: a `multiple` would
/// count an attempt for others.
///
/// Cancel safety: a dropped future leaves it settled or not; if not, it comes again.
///
/// # Errors
/// The channel has gone: the delivery comes again, and is a duplicate then.
pub async fn settle(delivery: &Delivery, settle: Settle) -> Result<(), ::lapin::Error> {
    let acker = &delivery.acker;
    let done = match settle {
        Settle::Ack => acker.ack(BasicAckOptions { multiple: false }).await,
        // A reject counts towards a quorum queue's delivery limit in every version, a nack until 4.3.
        Settle::Retry => acker.reject(BasicRejectOptions { requeue: true }).await,
        Settle::DeadLetter => acker.reject(BasicRejectOptions { requeue: false }).await,
        Settle::Release => acker.nack(BasicNackOptions { multiple: false, requeue: true }).await,
    };
    done.map(|_| ())
}

fn text(property: &Option<ShortString>) -> Option<&str> {
    property.as_ref().map(ShortString::as_str)
}

/// Text and numbers; what is a table, an array or a void has no bytes.
fn bytes(value: &AMQPValue) -> Option<Cow<'_, [u8]>> {
    let shown = |text: String| Some(Cow::Owned(text.into_bytes()));
    match value {
        AMQPValue::LongString(text) => Some(Cow::Borrowed(text.as_bytes())),
        AMQPValue::ShortString(text) => Some(Cow::Borrowed(text.as_str().as_bytes())),
        AMQPValue::ByteArray(bytes) => Some(Cow::Borrowed(bytes.as_slice())),
        AMQPValue::Boolean(value) => shown(value.to_string()),
        AMQPValue::ShortShortInt(value) => shown(value.to_string()),
        AMQPValue::ShortShortUInt(value) => shown(value.to_string()),
        AMQPValue::ShortInt(value) => shown(value.to_string()),
        AMQPValue::ShortUInt(value) => shown(value.to_string()),
        AMQPValue::LongInt(value) => shown(value.to_string()),
        AMQPValue::LongUInt(value) => shown(value.to_string()),
        AMQPValue::LongLongInt(value) => shown(value.to_string()),
        AMQPValue::Timestamp(value) => shown(value.to_string()),
        _ => None,
    }
}
