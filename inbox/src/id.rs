//! Whose message it is: the one rule by which every consumer names a message.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// As the table's CHECK has it.
pub const ID_BYTES_MAX: usize = 200;

const DAY_MS: u64 = 86_400_000;

/// The key under which a message is claimed: a UUID in lower case, `source|id`, or what else the
/// producer calls it. Never something derived from its payload, place or time: those change
/// between two deliveries of one message, or are the same for two messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(String);

impl MessageId {
    /// The id of a message that its producer calls `id`, within `source` if that is stated (CloudEvents).
    /// A UUID is unique without its source and is written in lower case; what is longer than
    /// [`ID_BYTES_MAX`] is hashed. `None` for an empty id, which is none.
    #[must_use]
    pub fn new(id: &str, source: Option<&str>) -> Option<Self> {
        if id.is_empty() {
            return None;
        }
        if let Some(uuid) = hyphenated(id) {
            return Some(Self(uuid.hyphenated().to_string()));
        }
        // A NUL cannot be stored.
        let full = match source.filter(|source| !source.is_empty()) {
            Some(source) => format!("{source}|{id}"),
            None => id.to_owned(),
        };
        if full.len() > ID_BYTES_MAX || full.contains('\0') {
            return Some(Self(hashed(&full)));
        }
        Some(Self(full))
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The day of an id that carries one, in days since 1970: its partition. Others are *undated*:
    /// they are remembered for the retention since they were processed, and never stale.
    #[must_use]
    pub fn day(&self) -> Option<u64> {
        let uuid = hyphenated(&self.0)?;
        // The variant is looked at as `outbox.inbox_bucket` does.
        let rfc = uuid.get_variant() == uuid::Variant::RFC4122;
        (rfc && uuid.get_version_num() == 7).then(|| {
            let (seconds, nanos) = uuid.get_timestamp().map_or((0, 0), |t| t.to_unix());
            (seconds * 1000 + u64::from(nanos) / 1_000_000) / DAY_MS
        })
    }

    /// For logs that must not hold the id: the start of its SHA-256.
    #[must_use]
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(&self.0)[..8])
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Of the spellings of a UUID only this one is taken for one: 32 bare hexadecimal digits may just
/// as well be somebody's trace id, with a random day in it.
fn hyphenated(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

fn hashed(text: &str) -> String {
    format!("sha256:{}", hex(&Sha256::digest(text)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: &str, source: Option<&str>) -> String {
        MessageId::new(id, source).unwrap().to_string()
    }

    #[test]
    fn a_uuid_is_lower_case_and_needs_no_source() {
        let uuid = "019AB3C4-0000-7ABC-8DEF-0123456789AB";
        assert_eq!(id(uuid, Some("/orders")), uuid.to_lowercase());
        assert_eq!(
            id("0123456789ABCDEF0123456789ABCDEF", None),
            "0123456789ABCDEF0123456789ABCDEF"
        );
    }

    #[test]
    fn another_id_is_unique_within_its_source() {
        assert_eq!(id("4711", Some("/orders")), "/orders|4711");
        assert_eq!(id("4711", Some("")), "4711");
        assert_eq!(id("Größe", None), "Größe");
        assert_eq!(MessageId::new("", Some("/orders")), None);
    }

    #[test]
    fn what_cannot_be_stored_is_hashed() {
        assert_eq!(id(&"x".repeat(200), None).len(), 200);
        for long in ["x".repeat(201), "a\0b".into()] {
            let hashed = id(&long, None);
            assert!(hashed.starts_with("sha256:") && hashed.len() == 71, "{hashed}");
        }
    }

    #[test]
    fn only_version_7_carries_a_day() {
        let day = |text: &str| MessageId::new(text, None).unwrap().day();
        // 2026-11-24T00:00:00Z is day 20781.
        let at = format!("{:012x}", 20_781 * DAY_MS);
        let dated = format!("{}-{}-7abc-8def-0123456789ab", &at[..8], &at[8..]);
        assert_eq!(day(&dated), Some(20_781));
        assert_eq!(day(&dated.replace("-7abc", "-4abc")), None);
        assert_eq!(day(&dated.replace("-8def", "-cdef")), None);
        assert_eq!(day("4711"), None);
    }
}
