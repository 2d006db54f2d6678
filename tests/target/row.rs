//! Rows to publish.

use outbox_relay::message::{Message, Parts};
use outbox_relay::target::Submission;
use uuid::Uuid;

/// The caller's window in tests.
pub(super) const WINDOW: usize = 10_000;

/// 2023-11-14T22:13:20.123456Z
pub(super) const CREATED_AT_US: i64 = 1_700_000_000_123_456;

/// A row with the fields that a test does not care about.
pub(super) fn parts<'a>(id: i64, topic: &'a str) -> Parts<'a> {
    Parts {
        id,
        message_id: Uuid::now_v7(),
        created_at_us: CREATED_AT_US,
        topic,
        key: Some("key"),
        kind: None,
        headers: None,
        payload: Some(b"payload"),
        oversize_bytes: None,
    }
}

/// A submission without a ticket: the driver gives it one.
pub(super) fn submission(parts: Parts<'_>) -> Submission {
    let message = Message::new(parts);
    Submission { ticket: 0, message, route: 0, resent: None, replay: None, probe: false }
}
