//! What a message of the writer says: an order mostly, anything else that a row may hold now and
//! then.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::content::{Content, headers_of};
use crate::support::rng::Rng;

/// A message to be inserted.
pub(super) struct Order {
    pub(super) message_id: Uuid,
    pub(super) key: Option<String>,
    /// Its place in its key; `None`: no order is promised.
    pub(super) place: Option<i64>,
    pub(super) topic: &'static str,
    pub(super) kind: Option<&'static str>,
    pub(super) headers: Option<Value>,
    pub(super) payload: Option<Vec<u8>>,
}

impl Order {
    pub(super) fn new(rng: &mut Rng, key: Option<&str>, place: Option<i64>, odd: bool) -> Self {
        let topics = ["order.placed", "order.paid", "order.shipped"];
        let mut order = Self {
            message_id: Uuid::now_v7(),
            key: key.map(str::to_owned),
            place,
            topic: topics[rng.below(3) as usize],
            kind: Some("Order"),
            headers: Some(json!({
                "content-type": "application/json",
                "traceparent": format!("00-{:016x}{:016x}-{:016x}-01", rng.next(), rng.next(), rng.next()),
            })),
            payload: Some(document(rng, key, place)),
        };
        if odd {
            order.make_odd(rng);
        }
        order
    }

    fn make_odd(&mut self, rng: &mut Rng) {
        self.kind = [None, Some(""), Some("Order")][rng.below(3) as usize];
        self.headers = match rng.below(4) {
            0 => None,
            1 => Some(json!({})),
            2 => Some(json!({ "näme": "wért ☃", "number": 17, "yes": true, "nothing": null })),
            _ => Some(json!({ "nested": { "list": [1, "two", null], "text": "" }, "empty": "" })),
        };
        self.payload = match rng.below(5) {
            0 => None,
            1 => Some(Vec::new()),
            2 => Some((0..=255).collect()),
            3 => {
                let len = rng.below(16 * 1024) as usize;
                Some(rng.bytes(len))
            }
            _ => self.payload.take(),
        };
    }

    pub(super) fn content(&self) -> Content {
        Content {
            topic: self.topic.into(),
            key: self.key.clone(),
            kind: self.kind.map(str::to_owned),
            payload: self.payload.clone(),
            headers: self.headers.as_ref().map(headers_of).unwrap_or_default(),
        }
    }
}

/// About 300 bytes of JSON.
fn document(rng: &mut Rng, key: Option<&str>, place: Option<i64>) -> Vec<u8> {
    json!({
        "customer": key,
        "version": place,
        "order": format!("{:016x}", rng.next()),
        "total": rng.below(100_000) as f64 / 100.0,
        "currency": "EUR",
        "lines": [
            { "article": format!("A-{:05}", rng.below(100_000)), "quantity": rng.below(9) + 1 },
            { "article": format!("B-{:05}", rng.below(100_000)), "quantity": rng.below(9) + 1 },
        ],
        "note": "leave it at the door, ring twice, and mind the step behind the gate",
    })
    .to_string()
    .into_bytes()
}
