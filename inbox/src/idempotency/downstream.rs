//! The key that a third party gets, so that it does once what we may ask twice.

use uuid::{Uuid, uuid};

/// The namespace of every derived key. It never changes: a resumed step must ask with the same key.
pub const DOWNSTREAM_NAMESPACE: Uuid = uuid!("6f4f1c0e-2d2b-5c3e-9a41-7d1f0b9c5a10");

/// The version 5 UUID of scope, key and step, joined by U+001F: the same for every attempt, and another
/// one for every other step.
///
/// ```
/// use outbox_inbox::idempotency::downstream_key;
///
/// let key = downstream_key("consumer:billing", "01890a5d-ac96-774b-bcce-b302099a8057", "charge");
/// assert_eq!(key.to_string(), "6731dc94-b285-5ac1-a9bc-41a8f1608299");
/// ```
///
/// In Python: `uuid.uuid5(NAMESPACE, "\x1f".join([scope, key, step]))`.
#[must_use]
pub fn downstream_key(scope: &str, key: &str, step: &str) -> Uuid {
    Uuid::new_v5(&DOWNSTREAM_NAMESPACE, format!("{scope}\x1f{key}\x1f{step}").as_bytes())
}
